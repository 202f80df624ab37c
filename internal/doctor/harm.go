package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

// harm is what rules do to what the service still needs.
type harm struct {
	does  []string
	later bool // not yet, all of it: on a day to come
	own   bool // all of it by the rule that --fix installed
}

func (h harm) any() bool { return len(h.does) > 0 }

// verdict is that of a check that found some.
func (h harm) verdict(fix, because string) verdict {
	text := strings.Join(h.does, "; ") + "; " + because
	if h.later {
		return warn(fix, "%s", text)
	}
	return fail(fix, "%s", text)
}

// judge says what a rule does too early, "" for nothing, and whether that day is
// still to come.
type judge func(s3blob.LifecycleRule) (does string, later bool)

// harm asks of every rule: one that spares some objects takes the others.
func (r rules) harm(j judge) harm {
	h := harm{later: true, own: true}
	for _, rule := range r.list {
		does, later := j(rule)
		if does == "" {
			continue
		}
		if rule.Some {
			does += " (some of them)"
		}
		h.does = append(h.does, fmt.Sprintf("rule %q %s", rule.ID, does))
		h.later, h.own = h.later && later, h.own && rule.Own
	}
	return h
}

func aborts(longest time.Duration) judge {
	return func(r s3blob.LifecycleRule) (string, bool) {
		if r.AbortDays == 0 || time.Duration(r.AbortDays)*day >= longest {
			return "", false
		}
		return "aborts unfinished uploads after " + counted(r.AbortDays, "day"), false
	}
}

// takes judges by the age at which objects are out of use. A day of the calendar
// comes for the youngest, too, and goes on taking from then on.
func takes(longest time.Duration, now time.Time) judge {
	early := func(days int) bool { return time.Duration(days)*day < longest }
	on := func(what string, date time.Time) (string, bool) {
		return fmt.Sprintf("%s from %s on, however young", what, date.UTC().Format(time.DateOnly)), date.After(now)
	}
	return func(r s3blob.LifecycleRule) (string, bool) {
		archives := "moves objects to " + r.Archive + ", where they cannot be read,"
		switch {
		case r.ExpireDays > 0 && early(r.ExpireDays):
			return "expires objects after " + counted(r.ExpireDays, "day"), false
		case r.Archive != "" && r.ArchiveDate.IsZero() && early(r.ArchiveDays):
			return archives + " after " + counted(r.ArchiveDays, "day"), false
		case !r.ExpireDate.IsZero():
			return on("expires objects", r.ExpireDate)
		case r.Archive != "" && !r.ArchiveDate.IsZero():
			return on(archives, r.ArchiveDate)
		}
		return "", false
	}
}
