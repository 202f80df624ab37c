package doctor

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

func (d *Doctor) checkBucket(ctx context.Context) verdict {
	s := d.cfg.Settings
	if d.opened != nil {
		return fail("correct the S3_ settings and the shared configuration of AWS", "%v", d.opened)
	}
	if client, ok := d.store.API().(*s3.Client); ok {
		if _, err := client.Options().Credentials.Retrieve(ctx); err != nil {
			return fail("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or let another link of the SDK's chain have some (profile, web identity, instance)",
				"no credentials: %v", err)
		}
	}
	err := d.store.Ready(ctx)
	switch {
	case err == nil:
		return ok("%s answers", s.S3Bucket)
	case errors.Is(err, blob.ErrClockSkew):
		return skip("requests are refused for their date, see %s", nameClock)
	case errors.Is(err, blob.ErrBucketNotFound):
		return fail("correct S3_BUCKET, or let serve create it with S3_CREATE_BUCKET=true", "there is no bucket %s", s.S3Bucket)
	case refused(err):
		return d.bucketRefused(ctx, err)
	case s3blob.Unreachable(err):
		return fail("correct S3_ENDPOINT; look whether the store runs and no firewall or proxy is between", "cannot be reached: %s", s3Said(err))
	}
	return fail("correct S3_BUCKET (3 to 63 lower-case letters, digits, dots and hyphens), S3_REGION, S3_ENDPOINT and S3_USE_PATH_STYLE", "%s", s3Said(err))
}

// bucketRefused asks for the reason, which an answer to HEAD has no room for.
func (d *Doctor) bucketRefused(ctx context.Context, err error) verdict {
	_, why := d.store.API().ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String(d.cfg.Settings.S3Bucket), MaxKeys: aws.Int32(1)})
	switch s3Code(why) {
	case "", codeDenied:
		v := fail(d.grant("s3:ListBucket", true), "HeadBucket is refused: %s", s3Said(err))
		v.usable = true // the rest may be allowed
		return v
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken":
		return fail("correct the credentials", "%s", s3Said(why))
	}
	return fail("correct the credentials, S3_REGION and S3_ENDPOINT", "%s", s3Said(why))
}

// checkVersioning finds buckets in which deleted files stay.
func (d *Doctor) checkVersioning(ctx context.Context) verdict {
	admin, err := d.store.Admin(d.cfg.Settings.S3Prefix)
	if err != nil {
		return skip("%v", err)
	}
	versioned, err := admin.Versioned(ctx)
	switch {
	case errors.Is(err, blob.ErrUnsupported):
		return ok("the store keeps no versions")
	case refused(err):
		return d.unread("versioning", "s3:GetBucketVersioning")
	case err != nil:
		return fail("see docs/stores.md", "%s", s3Said(err))
	case versioned && !d.oldVersionsExpire(ctx):
		return warn("suspend versioning, or expire noncurrent versions with a lifecycle rule", "the bucket keeps versions: a deleted file stays, hidden")
	case versioned:
		return ok("noncurrent versions expire")
	}
	return ok("a delete is one")
}

// unread is a part of the bucket's configuration that may not be read. The
// service needs no such permission, so that it is no failure.
func (d *Doctor) unread(what, action string) verdict {
	v := skip("not examined: %s of the bucket may not be read", what)
	v.fix = d.grant(action, true) + ", or run doctor with an administrator's credentials"
	return v
}

// oldVersionsExpire reports whether a rule without conditions says so. What cannot
// be read does not count.
func (d *Doctor) oldVersionsExpire(ctx context.Context) bool {
	api, ok := d.store.API().(s3blob.AdminAPI)
	if !ok {
		return false
	}
	out, err := api.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: aws.String(d.cfg.Settings.S3Bucket)})
	if err != nil {
		return false
	}
	for _, r := range out.Rules {
		if r.Status == "Enabled" && r.NoncurrentVersionExpiration != nil {
			return true
		}
	}
	return false
}
