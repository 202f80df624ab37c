package doctor

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// checkChecksum tries what S3_CHECKSUM has the service send, and what a direct
// upload is verified by: a SHA-256 that the store compares, keeps and tells.
func (d *Doctor) checkChecksum(ctx context.Context) verdict {
	if d.checksumRefused != nil {
		d.noSHA256 = true
		return fail("set S3_CHECKSUM=when_required", "the store refuses flexible checksums: %s", s3Said(d.checksumRefused))
	}
	const fix = "use a store, or a release of it, that knows x-amz-checksum-sha256; until then do without direct uploads"
	right, wrong := sha256.Sum256([]byte(probeText)), sha256.Sum256(nil)
	key, err := d.putSummed(ctx, "summed", right)
	if err != nil {
		d.noSHA256 = true
		return warn(fix, "a put with its SHA-256 is refused: %s", s3Said(err))
	}
	info, err := d.store.Head(ctx, key)
	switch {
	case err != nil:
		return warn(fix, "of an object that was put with its SHA-256: %s", s3Said(err))
	case info.SHA256 == nil || *info.SHA256 != right:
		return warn(fix, "the store does not tell the SHA-256 that an object was put with")
	}
	if _, err := d.putSummed(ctx, "wrongly-summed", wrong); err == nil {
		return warn(fix, "the store takes content that does not fit its SHA-256")
	}
	return ok("S3_CHECKSUM=%s is taken; a SHA-256 is compared, kept and told", d.cfg.Settings.S3Checksum)
}

func (d *Doctor) putSummed(ctx context.Context, name string, sum [sha256.Size]byte) (key string, err error) {
	key = d.newKey(name)
	in := &s3.PutObjectInput{
		Bucket: aws.String(d.cfg.Settings.S3Bucket), Key: aws.String(key), Body: strings.NewReader(probeText),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
	}
	d.store.ProtectPut(in)
	_, err = d.store.API().PutObject(ctx, in)
	d.forgetRefused(err)
	return key, err
}

func (d *Doctor) checkConditional(ctx context.Context) verdict {
	const fix = "use a store, or a release of it, that knows If-None-Match: * on puts; without it a direct upload can be replaced until its URL ends, which its checksum shows"
	admin, err := d.store.Admin(strings.TrimSuffix(d.dir, "/"))
	if err != nil {
		return skip("%v", err)
	}
	d.conditional, err = admin.ConditionalWrites(ctx)
	switch {
	case err != nil:
		return warn(fix, "a put with If-None-Match: %s", s3Said(err))
	case !d.conditional:
		return warn(fix, "the store replaces an object in spite of If-None-Match")
	}
	return ok("the store refuses to replace an object when told so")
}
