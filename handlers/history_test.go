package handlers_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/molecule-ai/pendinguploads/metadata"
)

// What a page counts and what makes a bubble are told apart in two places, by the
// query and by the reader of its rows. They agree.
func TestChatHistoryCountsWhatMakesABubble(t *testing.T) {
	t.Parallel()
	w := newServer(t)
	ws, token := w.workspace("poll")
	rows := []struct {
		name, request, response string
		shows                   int // bubbles
	}{
		{"text", `{"params":{"message":{"parts":[{"kind":"text","text":"a"}]}}}`, ``, 1},
		{"file", `{"params":{"message":{"parts":[{"kind":"file","file":{"uri":"u"}}]}}}`, ``, 1},
		{"file with a name alone", `{"params":{"message":{"parts":[{"file":{"name":"n"}}]}}}`, ``, 1},
		{"second part", `{"params":{"message":{"parts":[{"data":1},{"text":"a"}]}}}`, ``, 1},
		{"question and answer", `{"params":{"message":{"parts":[{"text":"a"}]}}}`, `{"result":"b"}`, 2},
		{"answer", ``, `{"result":"b","parts":[]}`, 1},
		{"answer with a file alone", ``, `{"result":"","parts":[{"file":{"uri":"u"}}]}`, 1},
		{"message as answer", ``, `{"result":{"parts":[{"text":"b"}]}}`, 1},
		{"wrapped message as answer", ``, `{"result":{"message":{"parts":[{"text":"b"}]}}}`, 1},
		{"task with a status", ``, `{"result":{"status":{"message":{"parts":[{"text":"b"}]}}}}`, 1},
		{"task with artifacts", ``, `{"result":{"artifacts":[{"parts":[]},{"parts":[{"file":{"uri":"u"}}]}]}}`, 1},
		{"nothing", ``, ``, 0},
		{"poll of a task", `{"method":"tasks/get","params":{"id":"t"}}`, `{"result":{"id":"t","status":{"state":"working"}}}`, 0},
		{"empty text", `{"params":{"message":{"parts":[{"text":""},{"text":null},{"file":{"uri":"","name":null}}]}}}`, ``, 0},
		{"text that is none", `{"params":{"message":{"parts":[{"text":5},7,"x",null]}}}`, ``, 0},
		{"no parts", `{"params":{"message":{}}}`, `{"result":{"parts":null}}`, 0},
		{"empty answer", ``, `{"result":"","parts":[]}`, 0},
		{"parts without an answer", ``, `{"parts":[{"text":"b","file":{"uri":"u"}}]}`, 0},
		{"text beside an empty answer", ``, `{"result":"","error":{"code":1}}`, 0},
		{"scalars", `5`, `"x"`, 0},
	}
	body := func(s string) json.RawMessage {
		if s == "" {
			return nil
		}
		return json.RawMessage(s)
	}
	var showing []string // row ids, oldest first
	for _, row := range rows {
		written, err := w.activity.Append(t.Context(), ws, metadata.NewEntry{
			ActivityType: metadata.ActivityReceive, RequestBody: body(row.request), ResponseBody: body(row.response),
		})
		if err != nil {
			t.Fatal(err)
		}
		id := written[0].ID.String()
		var one history
		w.do("GET", "/workspaces/"+ws.String()+"/chat-history?limit=1", token, nil).json(t, &one)
		got := 0
		for _, m := range one.Messages {
			if m.ID == id+":"+m.Role {
				got++
			}
		}
		if got != row.shows {
			t.Errorf("%s: %d bubbles, want %d", row.name, got, row.shows)
		}
		if row.shows > 0 {
			showing = append(showing, id)
		} else if len(one.Messages) == 0 {
			t.Errorf("%s: it took the place of a row that shows", row.name)
		}
	}
	for n := 1; n <= len(showing); n++ {
		var page history
		w.do("GET", fmt.Sprintf("/workspaces/%s/chat-history?limit=%d", ws, n), token, nil).json(t, &page)
		var ids []string
		for _, m := range page.Messages {
			if id := m.ID[:len(showing[0])]; !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
		if want := showing[len(showing)-n:]; !slices.Equal(ids, want) || page.End != (n == len(showing)) {
			t.Errorf("page of %d: rows %v, end %v; want %v", n, ids, page.End, want)
		}
	}
}
