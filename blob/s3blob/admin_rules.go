package s3blob

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/molecule-ai/pendinguploads/storage"
)

// LifecycleRule is what an enabled rule of the bucket does to objects that can lie
// below the prefix, or to some of them.
type LifecycleRule struct {
	ID  string
	Own bool // SetLifecycle installed it

	// Some says that it spares some: it wants a longer prefix, a tag or a size.
	Some bool

	AbortDays  int       // age at which unfinished multipart uploads go; 0 never
	ExpireDays int       // age at which objects go; 0 never
	ExpireDate time.Time // from then on objects go, whatever their age; zero never

	// Archive is the first of the classes that objects move to and cannot be read
	// from before they are restored; "" none. They do at an age, which may be 0, or
	// from a date on.
	Archive     string
	ArchiveDays int
	ArchiveDate time.Time
}

// LifecycleRules reads the enabled rules that can touch an object of the service,
// whoever set them, in the bucket's order: those whose prefix is that of a key,
// whose tags all objects carry, and whose sizes files can have. Rules that do
// nothing named in LifecycleRule are left out. s3:GetLifecycleConfiguration.
func (a *Admin) LifecycleRules(ctx context.Context) ([]LifecycleRule, error) {
	out, err := a.readLifecycle(ctx)
	if err != nil {
		return nil, err
	}
	var list []LifecycleRule
	for _, r := range out.Rules {
		w := whom(r)
		if r.Status != types.ExpirationStatusEnabled || !a.touches(w) {
			continue
		}
		rule := LifecycleRule{ID: aws.ToString(r.ID), Own: a.isOurs(r), Some: !a.covers(w)}
		idle := rule
		rule.does(r)
		if rule != idle {
			list = append(list, rule)
		}
	}
	return list, nil
}

// does fills in what is done.
func (l *LifecycleRule) does(r types.LifecycleRule) {
	if u := r.AbortIncompleteMultipartUpload; u != nil {
		l.AbortDays = int(aws.ToInt32(u.DaysAfterInitiation))
	}
	if e := r.Expiration; e != nil {
		l.ExpireDays, l.ExpireDate = int(aws.ToInt32(e.Days)), aws.ToTime(e.Date)
	}
	for _, t := range r.Transitions {
		if t.StorageClass != types.TransitionStorageClassGlacier && t.StorageClass != types.TransitionStorageClassDeepArchive {
			continue // read as before, if for another price
		}
		days := int(aws.ToInt32(t.Days))
		if l.Archive == "" || t.Date == nil && days < l.ArchiveDays {
			l.Archive, l.ArchiveDays, l.ArchiveDate = string(t.StorageClass), days, aws.ToTime(t.Date)
		}
	}
}

// Covering sums up the rules that spare nothing below the prefix: the sooner of
// two counts.
func Covering(rules []LifecycleRule) Lifecycle {
	var sum Lifecycle
	for _, r := range rules {
		if !r.Some {
			sum.AbortDays, sum.ExpireDays = sooner(sum.AbortDays, r.AbortDays), sooner(sum.ExpireDays, r.ExpireDays)
		}
	}
	return sum
}

// sooner is the smaller number of days, where 0 means never.
func sooner(a, b int) int {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// filter is whom a rule picks.
type filter struct {
	prefix       string
	tags         []types.Tag
	above, below *int64 // sizes in bytes, both exclusive; nil for any
}

// whom reads what a rule may say in three places.
func whom(r types.LifecycleRule) filter {
	w := filter{prefix: aws.ToString(r.Prefix)} //nolint:staticcheck // older rules have it there
	f := r.Filter
	if f == nil {
		return w
	}
	w.prefix += aws.ToString(f.Prefix)
	w.above, w.below = f.ObjectSizeGreaterThan, f.ObjectSizeLessThan
	if f.Tag != nil {
		w.tags = append(w.tags, *f.Tag)
	}
	if f.And != nil {
		w.prefix += aws.ToString(f.And.Prefix)
		w.above, w.below = f.And.ObjectSizeGreaterThan, f.And.ObjectSizeLessThan
		w.tags = append(w.tags, f.And.Tags...)
	}
	return w
}

// covers reports whether every object below the prefix is picked. Tags and sizes
// spare some: what was put with other tags before, for one.
func (a *Admin) covers(w filter) bool {
	return strings.HasPrefix(a.objectPrefix(), w.prefix) && len(w.tags) == 0 && w.above == nil && w.below == nil
}

// touches reports whether an object of the service can be picked.
func (a *Admin) touches(w filter) bool {
	if w.above != nil && *w.above >= storage.MaxFileBytesCeiling || w.below != nil && *w.below <= 1 {
		return false
	}
	if slices.ContainsFunc(w.tags, func(t types.Tag) bool { return !a.tagged(t) }) {
		return false
	}
	if strings.HasPrefix(a.objectPrefix(), w.prefix) {
		return true
	}
	rest, below := strings.CutPrefix(w.prefix, a.objectPrefix())
	return below && beginsKey(rest)
}

func (a *Admin) tagged(t types.Tag) bool {
	v, ok := a.protection.tags[aws.ToString(t.Key)]
	return ok && v == aws.ToString(t.Value)
}

// keyShape is what follows the prefix in a key, with x for a hexadecimal digit.
const keyShape = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx/xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"

// beginsKey tells the beginnings of keys from other folders of a shared bucket.
func beginsKey(rest string) bool {
	if len(rest) > len(keyShape) {
		return false
	}
	for i, c := range []byte(rest) {
		digit := '0' <= c && c <= '9' || 'a' <= c && c <= 'f'
		if keyShape[i] == 'x' && !digit || keyShape[i] != 'x' && c != keyShape[i] {
			return false
		}
	}
	return true
}
