package doctor_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/doctor"
)

// statement is one of a policy.
type statement struct {
	Effect    string
	Action    []string
	Resource  []string
	Condition map[string]map[string][]string `json:",omitempty"`
}

// identity is a user of the bucket's store who may do all that the statements do
// not deny.
func identity(t *testing.T, root devstack.S3, denied ...statement) devstack.S3 {
	t.Helper()
	return allowed(t, root, append(denied, statement{
		Effect: "Allow", Action: []string{"s3:*"}, Resource: []string{arn(root), arn(root) + "/*"},
	})...)
}

// allowed is a user who may do what the statements say.
func allowed(t *testing.T, root devstack.S3, statements ...statement) devstack.S3 {
	t.Helper()
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
	if err != nil {
		t.Fatal(err)
	}
	user, err := root.Session(t.Context(), string(policy))
	if err != nil {
		t.Fatal(err)
	}
	return user
}

// as has the doctor be another user than the one who made the world.
func (w *world) as(user devstack.S3) {
	w.keys = credentials.NewStaticCredentialsProvider(user.AccessKey, user.SecretKey, user.SessionToken)
}

func arn(s devstack.S3) string { return "arn:aws:s3:::" + s.Bucket }

// probes are the keys of the doctor's probes of a name.
func probes(name string) string { return "/" + prefix + "/.doctor/*/" + name }

// Digests that tell the steps of a multipart upload apart, which are all one
// action: creating it has no body, and the part is the probe's text.
var (
	noBody   = digestOf("")
	thePart  = digestOf("a probe of pendinguploads doctor\n")
	bodyHash = "s3:x-amz-content-sha256"
)

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// TestPermissionsOfRealIdentities has the store itself refuse one thing each: an
// action, where doctor asks one action twice that of one key, and where one key is
// written in steps the step with such a body.
func TestPermissionsOfRealIdentities(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		action string
		on     string // below the bucket's name
		when   map[string]map[string][]string
		want   others
		left   bool // something must be
	}{
		"put": {action: "s3:PutObject", on: probes("probe"), want: others{"put": doctor.Failure}.
			skipped("get", "head", "delete", "delete many", "checksum", "conditional writes", "presign", "public presign", "direct uploads", "public access")},
		"every put": {action: "s3:PutObject", on: "/*", want: others{"put": doctor.Failure, "multipart create": doctor.Failure}.
			skipped("get", "head", "delete", "delete many", "checksum", "conditional writes", "presign", "public presign", "direct uploads", "public access",
				"multipart part", "multipart complete", "multipart abort")},
		// Reading an object and its head are one action.
		"get and head": {action: "s3:GetObject", on: "/*", want: others{"get": doctor.Failure, "head": doctor.Failure}.
			skipped("checksum", "presign", "public presign", "direct uploads")},
		"list":            {action: "s3:ListBucket", want: others{"list": doctor.Failure}}, // MinIO answers HeadBucket by any other right to the bucket
		"list unfinished": {action: "s3:ListBucketMultipartUploads", want: others{"list unfinished": doctor.Failure}},
		"delete": {action: "s3:DeleteObject", on: probes("deleted"), left: true,
			want: others{"delete": doctor.Failure, "probes": doctor.Warning}.skipped("conditional writes", "direct uploads")},
		"delete many": {action: "s3:DeleteObject", on: probes("deleted-1"), left: true,
			want: others{"delete many": doctor.Failure, "probes": doctor.Warning}},
		"every delete": {action: "s3:DeleteObject", on: "/*", left: true,
			want: others{"delete": doctor.Failure, "delete many": doctor.Failure, "probes": doctor.Warning}.
				skipped("conditional writes", "direct uploads")},
		"multipart create": {action: "s3:PutObject", on: probes("parts"), want: others{"multipart create": doctor.Failure}.
			skipped("multipart part", "multipart complete", "multipart abort")},
		"multipart part": {action: "s3:PutObject", on: probes("parts"),
			when: map[string]map[string][]string{"StringEquals": {bodyHash: {thePart}}},
			want: others{"multipart part": doctor.Failure}.skipped("multipart complete")},
		"multipart complete": {action: "s3:PutObject", on: probes("parts"),
			when: map[string]map[string][]string{"StringNotEquals": {bodyHash: {noBody, thePart}}},
			want: others{"multipart complete": doctor.Failure}},
		"multipart abort": {action: "s3:AbortMultipartUpload", on: "/*", left: true,
			want: others{"multipart abort": doctor.Failure, "probes": doctor.Warning}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.as(identity(t, w.s3, statement{
				Effect: "Deny", Action: []string{c.action}, Resource: []string{arn(w.s3) + c.on}, Condition: c.when,
			}))
			byName := found(t, w.run(t), c.want)
			for _, r := range byName {
				if r.Status == doctor.Failure {
					says(t, r, "refused: ", "grant "+c.action)
				}
			}
			if c.left {
				says(t, byName["probes"], prefix+"/.doctor/", "by hand")
			}
			if !c.left {
				w.empty(t)
			}
		})
	}
}

// TestWithTheLeastPermissions: what an identity that may do no more than the
// service needs (blob/s3blob) cannot tell is said to be unknown, and nothing else.
func TestWithTheLeastPermissions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.as(allowed(t, w.s3,
		statement{Effect: "Allow", Action: []string{"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"}, Resource: []string{arn(w.s3) + "/" + prefix + "/*"}},
		statement{Effect: "Allow", Action: []string{"s3:ListBucket", "s3:ListBucketMultipartUploads"}, Resource: []string{arn(w.s3)}},
	))
	byName := found(t, w.run(t), others{}.skipped("versioning", "lifecycle unfinished", "lifecycle objects"))
	says(t, byName["versioning"], "s3:GetBucketVersioning")
	says(t, byName["lifecycle objects"], "s3:GetLifecycleConfiguration")
	says(t, byName["public access"], "the policy's status is not known")
	w.empty(t)
}
