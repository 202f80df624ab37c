package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

// Remedy is something that Apply sets up.
type Remedy struct {
	// Text says what will be set, in one line.
	Text string

	checks []string // whose warning it ends
	apply  func(context.Context, *s3blob.Admin) error
}

// Remedies lists what can be set up after Run, for the checks that warned. A rule
// of somebody else's that does harm is not among it.
func (d *Doctor) Remedies(results []Result) []Remedy {
	warned := func(name string) bool {
		return slices.ContainsFunc(results, func(r Result) bool { return r.Name == name && r.Status == Warning })
	}
	var list []Remedy
	if want, checks := d.missingRule(results); len(checks) > 0 {
		list = append(list, d.lifecycleRemedy(want, checks))
	}
	if warned(nameCORS) {
		list = append(list, d.corsRemedy())
	}
	return list
}

func (d *Doctor) lifecycleRemedy(want s3blob.Lifecycle, checks []string) Remedy {
	var parts []string
	if want.AbortDays > 0 {
		parts = append(parts, "abort unfinished uploads after "+counted(want.AbortDays, "day"))
	}
	if want.ExpireDays > 0 {
		parts = append(parts, fmt.Sprintf("expire objects after %s (they are needed for up to %v)", counted(want.ExpireDays, "day"), d.rules.needed.longest))
	}
	return Remedy{
		Text: fmt.Sprintf("lifecycle rule of bucket %s for keys that begin with %q: %s; the rules of others stay",
			d.cfg.Settings.S3Bucket, d.prefixed(""), strings.Join(parts, ", ")),
		checks: checks,
		apply:  func(ctx context.Context, a *s3blob.Admin) error { return a.SetLifecycle(ctx, want) },
	}
}

func (d *Doctor) corsRemedy() Remedy {
	origins := d.cfg.Settings.CORSOrigins
	return Remedy{
		Text: fmt.Sprintf("CORS rule of bucket %s: pages of %s may GET, PUT and HEAD with all headers, and read ETag and X-Amz-Checksum-Sha256; the rules of others stay",
			d.cfg.Settings.S3Bucket, strings.Join(origins, ", ")),
		checks: []string{nameCORS},
		apply:  func(ctx context.Context, a *s3blob.Admin) error { return a.SetCORS(ctx, origins...) },
	}
}

// Apply sets up each of the remedies, whatever becomes of the others, and does
// their checks again. It returns the results with those in place of the former
// ones.
func (d *Doctor) Apply(ctx context.Context, remedies []Remedy, results []Result, report func(Result)) ([]Result, error) {
	if len(remedies) == 0 {
		return results, nil
	}
	admin, err := d.store.Admin(d.cfg.Settings.S3Prefix)
	if err != nil {
		return results, err
	}
	var again []string
	for _, r := range remedies {
		again = append(again, r.checks...)
		if failed := d.applyOne(ctx, admin, r); failed != nil {
			err = errors.Join(err, failed)
		}
	}
	d.rules = nil
	var list []check
	for _, c := range checks(true) {
		if slices.Contains(again, c.name) {
			list = append(list, c)
		}
	}
	results = slices.Clone(results)
	for _, r := range d.run(ctx, list, report) {
		results[slices.IndexFunc(results, func(old Result) bool { return old.Name == r.Name })] = r
	}
	return results, err
}

func (d *Doctor) applyOne(ctx context.Context, admin *s3blob.Admin, r Remedy) error {
	ctx, cancel := context.WithTimeoutCause(ctx, d.cfg.Timeout, errSlow)
	defer cancel()
	err := r.apply(ctx, admin)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, blob.ErrUnsupported):
		return fmt.Errorf("the store does not know all of it: %s", s3Said(err))
	case refused(err):
		return fmt.Errorf("refused, grant s3:PutLifecycleConfiguration and s3:PutBucketCORS: %s", s3Said(err))
	}
	return fmt.Errorf("%s", s3Said(err))
}
