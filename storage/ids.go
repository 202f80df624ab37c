package storage

import (
	"database/sql/driver"
	"fmt"

	"github.com/google/uuid"
)

// WorkspaceID names a workspace: the receiver that files are staged for.
// Its text form is the canonical lower-case 8-4-4-4-12 UUID.
type WorkspaceID uuid.UUID

// FileID names one pending upload of a workspace. Ids made by this module are
// UUIDv7, so they sort by the time they were made.
type FileID uuid.UUID

// NewFileID returns a fresh UUIDv7. It fails only when the system's source of
// randomness does.
func NewFileID() (FileID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return FileID{}, fmt.Errorf("new file id: %w", err)
	}
	return FileID(id), nil
}

// ParseWorkspaceID reads a UUID in any spelling that google/uuid accepts (upper
// case, braces, urn:uuid:, no dashes); the value prints in canonical form
// whatever the spelling was. It returns ErrInvalidID for anything else.
func ParseWorkspaceID(s string) (WorkspaceID, error) {
	id, err := uuid.Parse(s)
	if err != nil {
		return WorkspaceID{}, fmt.Errorf("%w: workspace id is not a UUID", ErrInvalidID)
	}
	return WorkspaceID(id), nil
}

// ParseFileID is ParseWorkspaceID for file ids.
func ParseFileID(s string) (FileID, error) {
	id, err := uuid.Parse(s)
	if err != nil {
		return FileID{}, fmt.Errorf("%w: file id is not a UUID", ErrInvalidID)
	}
	return FileID(id), nil
}

func (id WorkspaceID) String() string { return uuid.UUID(id).String() }
func (id FileID) String() string      { return uuid.UUID(id).String() }

// IsZero reports whether the id is the all-zero UUID, which names nothing.
func (id WorkspaceID) IsZero() bool { return id == WorkspaceID{} }

// IsZero reports whether the id is the all-zero UUID, which names nothing.
func (id FileID) IsZero() bool { return id == FileID{} }

// MarshalText implements encoding.TextMarshaler.
func (id WorkspaceID) MarshalText() ([]byte, error) { return uuid.UUID(id).MarshalText() }

// MarshalText implements encoding.TextMarshaler.
func (id FileID) MarshalText() ([]byte, error) { return uuid.UUID(id).MarshalText() }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *WorkspaceID) UnmarshalText(b []byte) error { return (*uuid.UUID)(id).UnmarshalText(b) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *FileID) UnmarshalText(b []byte) error { return (*uuid.UUID)(id).UnmarshalText(b) }

// Value implements driver.Valuer: the id as canonical text.
func (id WorkspaceID) Value() (driver.Value, error) { return uuid.UUID(id).Value() }

// Value implements driver.Valuer: the id as canonical text.
func (id FileID) Value() (driver.Value, error) { return uuid.UUID(id).Value() }

// Scan implements sql.Scanner for text and for 16 raw bytes.
func (id *WorkspaceID) Scan(src any) error { return (*uuid.UUID)(id).Scan(src) }

// Scan implements sql.Scanner for text and for 16 raw bytes.
func (id *FileID) Scan(src any) error { return (*uuid.UUID)(id).Scan(src) }
