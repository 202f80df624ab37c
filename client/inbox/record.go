package inbox

import (
	"encoding/hex"
	"time"

	"github.com/molecule-ai/pendinguploads/client"
	"github.com/molecule-ai/pendinguploads/storage"
)

// stage is how far a file has come.
//
//	pending ──fetched──▶ placing ──renamed──▶ placed ──acked──▶ acked
//	   ▲  ▲                 │                   │
//	   │  └──not in folder──┘                   │
//	   └────────────────content mismatch────────┘
//
// From each of the first three a file can be given up: gone.
type stage string

const (
	stagePending stage = "pending" // announced, to be fetched
	stagePlacing stage = "placing" // fetched whole; if As is in the folder with this digest, that is it
	stagePlaced  stage = "placed"  // in the folder under As, to be acked
	stageAcked   stage = "acked"   // in the folder for good
	stageGone    stage = "gone"    // given up
)

// finished reports that nothing is left to do.
func (s stage) finished() bool { return s == stageAcked || s == stageGone }

// here reports that the file is in the folder.
func (s stage) here() bool { return s == stagePlaced || s == stageAcked }

// record is what the journal knows of one file.
type record struct {
	ID    storage.FileID `json:"id"`
	URI   string         `json:"uri"`
	Name  string         `json:"name"` // as announced
	MIME  string         `json:"mime,omitempty"`
	Size  int64          `json:"size"` // as announced
	Seq   int64          `json:"seq"`  // of the row that announced it
	Seen  time.Time      `json:"seen"` // by this machine's clock
	Stage stage          `json:"stage"`

	ETag       string `json:"etag,omitempty"` // of the content that a temporary file has the beginning of, where there is one
	As         string `json:"as,omitempty"`   // name in the folder
	Bytes      int64  `json:"bytes,omitempty"`
	SHA256     string `json:"sha256,omitempty"`
	Mismatches int    `json:"mismatches,omitempty"` // times that the service refused the content
	Damaged    int    `json:"damaged,omitempty"`    // times that what came was not what was announced
	Why        string `json:"why,omitempty"`        // it was given up
}

// received is what is, or should be, in the folder.
func (r record) received() client.Received {
	got := client.Received{Size: r.Bytes}
	// The journal's own text; anything else makes a digest that nothing has.
	_, _ = hex.Decode(got.SHA256[:], []byte(r.SHA256))
	return got
}

// back is the record as it was before the file was fetched.
func (r record) back() record {
	r.Stage, r.ETag, r.As, r.Bytes, r.SHA256 = stagePending, "", "", 0, ""
	return r
}
