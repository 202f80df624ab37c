package metadata

import (
	"github.com/google/uuid"
	"github.com/molecule-ai/pendinguploads/storage"
)

// Ids are sent as [16]byte, which pgx writes in binary form at once; it would
// take the text form of the distinct types first and parse that again.

func wsArg(id storage.WorkspaceID) uuid.UUID { return uuid.UUID(id) }

func fileArg(id storage.FileID) uuid.UUID { return uuid.UUID(id) }
