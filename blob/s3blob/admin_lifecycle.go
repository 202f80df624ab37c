package s3blob

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/molecule-ai/pendinguploads/blob"
)

// day is the unit of lifecycle rules.
const day = 24 * time.Hour

// Lifecycle is what rules do to everything below a prefix.
type Lifecycle struct {
	AbortDays  int // age at which unfinished multipart uploads go; 0 never
	ExpireDays int // age at which objects go; 0 never
}

// LifecycleDays is the least number of days that a rule needs to spare what is
// younger than age.
func LifecycleDays(age time.Duration) int {
	return max(1, int((age+day-1)/day))
}

// Lifecycle reads what happens to objects and unfinished uploads below the
// prefix, whoever set the rules: Covering of LifecycleRules.
// s3:GetLifecycleConfiguration.
func (a *Admin) Lifecycle(ctx context.Context) (Lifecycle, error) {
	rules, err := a.LifecycleRules(ctx)
	return Covering(rules), err
}

// SetLifecycle installs one rule for what is below the prefix, in place of the
// one it installed before, and keeps all others. Days of 0 leave that part out.
// Without a prefix it expires nothing: the rule would take whatever else lies in
// the bucket.
// S3 offers no way to exclude somebody else who sets rules at the same moment. It
// reads the rules again afterwards, because stores drop what they do not know:
// blob.ErrUnsupported then, with the rest of the rule in place.
// s3:GetLifecycleConfiguration, s3:PutLifecycleConfiguration.
func (a *Admin) SetLifecycle(ctx context.Context, want Lifecycle) error {
	if want.AbortDays < 0 || want.ExpireDays < 0 || want == (Lifecycle{}) {
		return fmt.Errorf("set lifecycle of bucket %q: %d and %d days", a.bucket, want.AbortDays, want.ExpireDays)
	}
	if want.ExpireDays > 0 && a.prefix == "" {
		return fmt.Errorf("set lifecycle of bucket %q: objects would expire in the whole bucket, want a prefix", a.bucket)
	}
	out, err := a.readLifecycle(ctx)
	if err != nil {
		return err
	}
	rules := append(slices.DeleteFunc(out.Rules, a.isOurs), a.rule(want))
	if err := a.writeLifecycle(ctx, rules, out); err != nil {
		if want.ExpireDays == 0 && isMalformed(err) {
			// The rule is right, so what it asks for is unknown, and then it asks for
			// nothing.
			err = fmt.Errorf("%w: %w", blob.ErrUnsupported, err)
		}
		return a.errorf(err, "set lifecycle")
	}
	got, err := a.OwnLifecycle(ctx)
	if err == nil && got != want {
		return fmt.Errorf("set lifecycle of bucket %q: asked for %+v, the store kept %+v: %w", a.bucket, want, got, blob.ErrUnsupported)
	}
	return err
}

func (a *Admin) isOurs(r types.LifecycleRule) bool { return aws.ToString(r.ID) == a.ruleID() }

func (a *Admin) rule(l Lifecycle) types.LifecycleRule {
	r := types.LifecycleRule{
		ID:     aws.String(a.ruleID()),
		Status: types.ExpirationStatusEnabled,
		Filter: &types.LifecycleRuleFilter{Prefix: aws.String(a.objectPrefix())},
	}
	if l.AbortDays > 0 {
		r.AbortIncompleteMultipartUpload = &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(int32(l.AbortDays))}
	}
	if l.ExpireDays > 0 {
		r.Expiration = &types.LifecycleExpiration{Days: aws.Int32(int32(l.ExpireDays))}
	}
	return r
}

// OwnLifecycle reads the rule that SetLifecycle installs, also while it is
// disabled. s3:GetLifecycleConfiguration.
func (a *Admin) OwnLifecycle(ctx context.Context) (Lifecycle, error) {
	out, err := a.readLifecycle(ctx)
	if err != nil {
		return Lifecycle{}, err
	}
	var own LifecycleRule
	if i := slices.IndexFunc(out.Rules, a.isOurs); i >= 0 {
		own.does(out.Rules[i])
	}
	return Lifecycle{AbortDays: own.AbortDays, ExpireDays: own.ExpireDays}, nil
}

// readLifecycle has no rules for a bucket without a configuration.
func (a *Admin) readLifecycle(ctx context.Context) (*s3.GetBucketLifecycleConfigurationOutput, error) {
	out, err := a.api.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: aws.String(a.bucket)})
	switch {
	case errorCode(err) == codeNoLifecycle:
		return &s3.GetBucketLifecycleConfigurationOutput{}, nil
	case err != nil:
		return nil, a.errorf(err, "read lifecycle")
	}
	return out, nil
}

// writeLifecycle replaces all rules, and keeps what else the configuration that
// was read says.
func (a *Admin) writeLifecycle(ctx context.Context, rules []types.LifecycleRule, read *s3.GetBucketLifecycleConfigurationOutput) error {
	return withBodyChecksum(a.mode, func(options ...func(*s3.Options)) error {
		_, err := a.api.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{
			Bucket:                             aws.String(a.bucket),
			LifecycleConfiguration:             &types.BucketLifecycleConfiguration{Rules: rules},
			TransitionDefaultMinimumObjectSize: read.TransitionDefaultMinimumObjectSize,
		}, options...)
		return err
	})
}
