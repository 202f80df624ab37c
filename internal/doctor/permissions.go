package doctor

import (
	"context"
	"io"

	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

// probeName is the object that other checks read.
const probeName = "probe"

func (d *Doctor) checkPut(ctx context.Context) verdict {
	_, err := d.put(ctx, probeName)
	if err != nil && !refused(err) && d.putsPlainly(ctx) {
		d.checksumRefused = err // the line of another check
		err = nil
	}
	actions := "s3:PutObject"
	if len(d.cfg.Settings.S3Tags) > 0 {
		actions += " and s3:PutObjectTagging"
	}
	if d.cfg.Settings.S3SSE == string(s3blob.EncryptionKMS) {
		actions += " (and kms:GenerateDataKey on the key)"
	}
	return d.verdictOf(err, actions, false)
}

// putsPlainly tries without flexible checksums, and goes on so if that works.
func (d *Doctor) putsPlainly(ctx context.Context) bool {
	configured := s3blob.ChecksumMode(d.cfg.Settings.S3Checksum)
	if configured == s3blob.ChecksumWhenRequired || d.openStores(ctx, s3blob.ChecksumWhenRequired) != nil {
		return false
	}
	if _, err := d.put(ctx, probeName); err == nil {
		return true
	}
	_ = d.openStores(ctx, configured) // as before, when it worked
	return false
}

func (d *Doctor) checkGet(ctx context.Context) verdict {
	body, err := d.store.Open(ctx, d.dir+probeName, 0, 0)
	if err != nil {
		return d.verdictOf(err, "s3:GetObject", false)
	}
	got, err := io.ReadAll(body)
	_ = body.Close()
	switch {
	case err != nil:
		return fail("look at what is between here and the store", "broken off: %s", s3Said(err))
	case string(got) != probeText:
		return fail("look at what is between here and the store, a cache or a filter", "%d other bytes than were put", len(got))
	}
	return ok("allowed")
}

func (d *Doctor) checkHead(ctx context.Context) verdict {
	info, err := d.store.Head(ctx, d.dir+probeName)
	if err == nil && info.Size != int64(len(probeText)) {
		return fail("look at what is between here and the store", "a size of %d bytes, of %d", info.Size, len(probeText))
	}
	return d.verdictOf(err, "s3:GetObject", false)
}

// checkList wants to see an object that was put just now: the sweeper takes a
// listing for the truth.
func (d *Doctor) checkList(ctx context.Context) verdict {
	var seen bool
	for o, err := range d.store.List(ctx, d.dir) {
		if err != nil {
			return d.verdictOf(err, "s3:ListBucket", true)
		}
		seen = seen || o.Key == d.dir+probeName
	}
	if d.usable[namePut] && !seen {
		return fail("use a store with consistent listings", "an object that was put is not listed")
	}
	return ok("allowed")
}

func (d *Doctor) checkListUnfinished(ctx context.Context) verdict {
	for _, err := range d.store.ListUnfinished(ctx, d.prefixed("")) {
		if err != nil {
			return d.verdictOf(err, "s3:ListBucketMultipartUploads", true)
		}
		break // one page is enough to know
	}
	return ok("allowed")
}

func (d *Doctor) checkDelete(ctx context.Context) verdict {
	key, err := d.put(ctx, "deleted")
	if err != nil {
		return fail("see put", "nothing to delete: %s", s3Said(err))
	}
	return d.verdictOf(d.store.Delete(ctx, key), "s3:DeleteObject", false)
}

func (d *Doctor) checkDeleteMany(ctx context.Context) verdict {
	var keys []string
	for _, name := range []string{"deleted-1", "deleted-2"} {
		key, err := d.put(ctx, name)
		if err != nil {
			return fail("see put", "nothing to delete: %s", s3Said(err))
		}
		keys = append(keys, key)
	}
	return d.verdictOf(d.store.Delete(ctx, keys...), "s3:DeleteObject", false)
}
