package doctor

import (
	"slices"
	"time"

	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

// noRule is why --fix installs no lifecycle rule, "" when it may.
func (d *Doctor) noRule(r rules) string {
	switch {
	case d.cfg.Settings.S3Prefix == "":
		return "set S3_PREFIX, and --fix can install a rule that spares what else lies in the bucket; without one, set it by hand if nothing does"
	case !d.usable[nameSettings]:
		return "correct the settings, then " + fixIt
	case !r.needed.known:
		return "let doctor read in the database how long files are kept, then " + fixIt
	}
	return ""
}

// install is what to do where there is no rule.
func (d *Doctor) install(r rules) string {
	if why := d.noRule(r); why != "" {
		return why
	}
	return fixIt
}

// lengthen is what to do about rules that do harm. Those of others are theirs to
// change.
func (d *Doctor) lengthen(h harm, otherwise string) string {
	if h.own && d.noRule(*d.rules) == "" {
		return fixIt
	}
	return otherwise
}

// missingRule is the rule that stands behind the sweeper and takes nothing that
// the service still needs, with the checks it is missing for. What the rule that
// was installed before does besides, or does later, it goes on doing.
func (d *Doctor) missingRule(results []Result) (want s3blob.Lifecycle, checks []string) {
	if d.rules == nil || d.rules.err != nil || d.noRule(*d.rules) != "" {
		return want, nil
	}
	// mends tells whether nothing does it, or our own rule alone does it too early.
	mends := func(name string, days int, h harm) bool {
		ill := slices.ContainsFunc(results, func(r Result) bool {
			return r.Name == name && (r.Status == Warning || r.Status == Failure)
		})
		if h.any() {
			return ill && h.own
		}
		return ill && days == 0
	}
	r, longest := d.rules, d.cfg.Settings.MaxUploadTime
	want = r.own
	if mends(nameUnfinished, r.AbortDays, r.harm(aborts(longest))) {
		want.AbortDays = max(want.AbortDays, s3blob.LifecycleDays(longest))
		checks = append(checks, nameUnfinished)
	}
	if mends(nameExpiry, r.ExpireDays, r.harm(takes(r.needed.longest, time.Now()))) {
		want.ExpireDays = max(want.ExpireDays, s3blob.LifecycleDays(r.needed.longest))
		checks = append(checks, nameExpiry)
	}
	return want, checks
}
