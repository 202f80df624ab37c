package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

const (
	day        = 24 * time.Hour
	fixIt      = "pendinguploads doctor --fix"
	actionRead = "s3:GetLifecycleConfiguration"

	// minio is what MinIO calls itself. It has no rule for unfinished uploads.
	minio = "MinIO"
)

// rules are the lifecycle rules, read once for two checks.
type rules struct {
	s3blob.Lifecycle // of those that spare nothing
	list             []s3blob.LifecycleRule
	own              s3blob.Lifecycle // what --fix installed before
	needed           lifetime
	err              error
}

func (d *Doctor) readRules(ctx context.Context) rules {
	if d.rules == nil {
		d.rules = &rules{needed: d.lifetime(ctx)}
		var admin *s3blob.Admin
		if admin, d.rules.err = d.store.Admin(d.cfg.Settings.S3Prefix); d.rules.err == nil {
			d.rules.list, d.rules.err = admin.LifecycleRules(ctx)
			d.rules.Lifecycle = s3blob.Covering(d.rules.list)
		}
		if d.rules.err == nil {
			d.rules.own, d.rules.err = admin.OwnLifecycle(ctx)
		}
	}
	return *d.rules
}

// unreadRules judges rules that cannot be read.
func (d *Doctor) unreadRules(err error) (verdict, bool) {
	switch {
	case err == nil:
		return verdict{}, false
	case errors.Is(err, blob.ErrUnsupported):
		return warn("let the store's own means, or a timer with pendinguploads sweep --orphans, stand behind the sweeper", "the store has no lifecycle rules"), true
	case refused(err):
		return d.unread("lifecycle", actionRead), true
	}
	return fail("see docs/stores.md", "%s", s3Said(err)), true
}

func (d *Doctor) checkUnfinished(ctx context.Context) verdict {
	r := d.readRules(ctx)
	if v, done := d.unreadRules(r.err); done {
		return v
	}
	if found := r.harm(aborts(d.cfg.Settings.MaxUploadTime)); found.any() {
		return found.verdict(d.lengthen(found, "lengthen the rule, or lower MAX_UPLOAD_TIME"),
			fmt.Sprintf("uploads may take %v", d.cfg.Settings.MaxUploadTime))
	}
	switch {
	case r.AbortDays == 0 && d.isMinIO(ctx):
		return ok("MinIO drops unfinished uploads by itself")
	case r.AbortDays == 0:
		return warn(d.install(r), "no rule aborts unfinished uploads below the prefix")
	}
	return ok("unfinished uploads are aborted after %s", counted(r.AbortDays, "day"))
}

func (d *Doctor) checkExpiry(ctx context.Context) verdict {
	r := d.readRules(ctx)
	if v, done := d.unreadRules(r.err); done {
		return v
	}
	if found := r.harm(takes(r.needed.longest, time.Now())); found.any() {
		return found.verdict(d.lengthen(found, "lengthen, narrow or disable the rule, or lower UPLOAD_TTL, ACK_RETENTION or ORPHAN_GRACE"),
			fmt.Sprintf("it takes live objects: they are needed for up to %v", r.needed.longest))
	}
	if r.ExpireDays == 0 {
		return warn(d.install(r), "no rule expires objects below the prefix")
	}
	return ok("objects expire after %s", counted(r.ExpireDays, "day"))
}

// isMinIO asks the store for its name. Something before it may have answered the
// first question.
func (d *Doctor) isMinIO(ctx context.Context) bool {
	if d.first.software == minio {
		return true
	}
	out, err := d.store.API().HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String(d.cfg.Settings.S3Bucket)})
	if err != nil {
		return false
	}
	raw, ok := awsmiddleware.GetRawResponse(out.ResultMetadata).(*smithyhttp.Response)
	return ok && raw.Header.Get("Server") == minio
}

// checkCORS asks as browsers do, where presigned URLs lead.
func (d *Doctor) checkCORS(ctx context.Context) verdict {
	origins := d.cfg.Settings.CORSOrigins
	if len(origins) == 0 {
		return ok("CORS_ORIGINS is empty: no page needs the bucket")
	}
	requests, err := d.presignedOfEachKind(ctx)
	if err != nil {
		return skip("not examined, see %s", namePresign)
	}
	var denied []string
	for _, origin := range origins {
		for _, r := range requests {
			allowed, err := s3blob.Preflight(ctx, d.client, r, origin)
			if err != nil {
				return skip("not examined, see %s", namePublicPresign)
			}
			if !allowed {
				denied = append(denied, r.Method+" from "+origin)
			}
		}
	}
	if len(denied) > 0 {
		return warn(fixIt+" (MinIO: MINIO_API_CORS_ALLOW_ORIGIN)", "browsers may not send %s", strings.Join(denied, ", "))
	}
	return ok("pages of %s may use presigned URLs", strings.Join(origins, ", "))
}

func (d *Doctor) presignedOfEachKind(ctx context.Context) ([]blob.SignedRequest, error) {
	get, err := d.store.PresignGet(ctx, d.dir+probeName, blob.PresignGetOptions{TTL: presignTTL})
	if err != nil {
		return nil, err
	}
	put, err := d.store.PresignPut(ctx, d.dir+"preflight", blob.PresignPutOptions{
		TTL: presignTTL, Size: 1, SHA256: [32]byte{1}, ContentType: "text/plain", IfNoneMatch: d.conditional,
	})
	return []blob.SignedRequest{get, put}, err
}

// checkPublicAccess tries without credentials. The policy's status counts where it
// may be read; the service needs no permission for it.
func (d *Doctor) checkPublicAccess(ctx context.Context) verdict {
	note := ""
	found, err := d.publicAccess(ctx)
	if err != nil {
		note = "; the policy's status is not known"
		if found, err = d.tryAnonymously(ctx); err != nil {
			return fail("look at what is between here and the store", "without credentials: %s", s3Said(err))
		}
	}
	var can []string
	if found.Read {
		can = append(can, "read")
	}
	if found.List {
		can = append(can, "list")
	}
	const fix = "take the public statement out of the bucket's policy and ACL, and turn on Block Public Access where there is such a thing"
	switch {
	case len(can) > 0:
		return fail(fix, "anybody can %s objects below the prefix", strings.Join(can, " and "))
	case found.Policy:
		return fail(fix, "the bucket's policy is public")
	}
	return ok("who has no credentials is refused%s", note)
}

func (d *Doctor) publicAccess(ctx context.Context) (s3blob.PublicAccess, error) {
	admin, err := d.store.Admin(strings.TrimSuffix(d.dir, "/"))
	if err != nil {
		return s3blob.PublicAccess{}, err
	}
	return admin.PublicAccess(ctx)
}

// tryAnonymously is the trial without the status.
func (d *Doctor) tryAnonymously(ctx context.Context) (s3blob.PublicAccess, error) {
	var found s3blob.PublicAccess
	bucket := aws.String(d.cfg.Settings.S3Bucket)
	anonymous := func(o *s3.Options) { o.Credentials = nil }
	_, err := d.store.API().ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, Prefix: aws.String(d.dir), MaxKeys: aws.Int32(1)}, anonymous)
	if found.List = err == nil; err != nil && !refused(err) {
		return found, err
	}
	out, err := d.store.API().GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String(d.dir + probeName)}, anonymous)
	if found.Read = err == nil; found.Read {
		_ = out.Body.Close()
	}
	if err != nil && !refused(err) {
		return found, err
	}
	return found, nil
}
