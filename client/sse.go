package client

import (
	"bufio"
	"errors"
	"io"
	"strings"
)

// maxEvent bounds one event of a stream.
const maxEvent = maxReply

var errEventTooLarge = errors.New("an event of the stream is too large")

// event is one server-sent event.
type event struct {
	id, name string
	data     []byte
}

// eventReader reads server-sent events (WHATWG HTML, 9.2). Its comments and
// retry times are read over.
type eventReader struct {
	r      *bufio.Reader
	lastID string
}

func newEventReader(r io.Reader) *eventReader { return &eventReader{r: bufio.NewReader(r)} }

// next returns the next event that has data. io.EOF at the end of the stream; an
// event that the end cuts off is none.
func (e *eventReader) next() (event, error) {
	var ev event
	size, begun := 0, false
	for {
		line, err := e.line()
		if err != nil {
			return event{}, err
		}
		if size += len(line); size > maxEvent {
			return event{}, errEventTooLarge
		}
		if line == "" {
			if begun {
				ev.id = e.lastID
				return ev, nil
			}
			ev, size = event{}, 0
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "data":
			if begun {
				ev.data = append(ev.data, '\n')
			}
			ev.data, begun = append(ev.data, value...), true
		case "event":
			ev.name = value
		case "id":
			if !strings.Contains(value, "\x00") {
				e.lastID = value
			}
		}
	}
}

// line reads up to a line feed and drops a carriage return before it. A lone
// carriage return as the end of a line, which the format allows, is not known to
// this reader: no server sends it.
func (e *eventReader) line() (string, error) {
	var long []byte
	for {
		part, err := e.r.ReadSlice('\n')
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			if long = append(long, part...); len(long) > maxEvent {
				return "", errEventTooLarge
			}
			continue
		case err != nil:
			return "", err
		}
		long = append(long, part...)
		return strings.TrimSuffix(string(long[:len(long)-1]), "\r"), nil
	}
}
