package doctor

import (
	"context"
	"slices"
)

// removeProbes removes what the checks have put, one way or the other.
func (d *Doctor) removeProbes(ctx context.Context) verdict {
	if len(d.keys) == 0 && len(d.uploads) == 0 {
		return ok("none were put")
	}
	for o, err := range d.store.List(ctx, d.dir) {
		if err != nil {
			break // what was put is known, but for probes within a probe
		}
		d.keys = append(d.keys, o.Key)
	}
	slices.Sort(d.keys)
	d.keys = slices.Compact(d.keys)
	var remain []string
	for _, key := range d.keys {
		if d.store.Delete(ctx, key) != nil {
			remain = append(remain, key)
		}
	}
	var err error
	if len(remain) > 0 {
		// The other way of deleting, which it takes two for.
		err = d.store.Delete(ctx, append(remain, d.dir+"absent")...)
	}
	for _, u := range d.uploads {
		if aborted := d.store.AbortUnfinished(ctx, u); aborted != nil && err == nil {
			err = aborted
		}
	}
	if err != nil {
		return warn("remove them by hand: nothing else takes what lies there but a lifecycle rule", "probes remain below %s: %s", d.dir, s3Said(err))
	}
	return ok("nothing remains below %s", d.prefixed(probeDir+"/"))
}
