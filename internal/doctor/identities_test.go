package doctor_test

import (
	"testing"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/doctor"
)

// TestPermissionsOfRealIdentities has the store itself refuse one action each.
func TestPermissionsOfRealIdentities(t *testing.T) {
	t.Parallel()
	for action, c := range map[string]struct {
		on   string // below the bucket's name
		want others
		left bool // something must be
	}{
		"s3:GetObject": {on: "/*", want: others{"get": doctor.Failure, "head": doctor.Failure}.
			skipped("checksum", "presign", "public presign", "direct uploads")},
		"s3:ListBucket": {want: others{"list": doctor.Failure}}, // MinIO answers HeadBucket all the same
		"s3:AbortMultipartUpload": {on: "/*", left: true,
			want: others{"multipart abort": doctor.Failure, "probes": doctor.Warning}},
		"s3:DeleteObject": {on: "/*", left: true,
			want: others{"delete": doctor.Failure, "delete many": doctor.Failure, "probes": doctor.Warning}.
				skipped("conditional writes", "direct uploads")},
	} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			root := devstack.MinIO(t)
			arn := "arn:aws:s3:::" + root.Bucket
			user, err := root.Session(t.Context(), `{"Version":"2012-10-17","Statement":[
				{"Effect":"Allow","Action":["s3:*"],"Resource":["`+arn+`","`+arn+`/*"]},
				{"Effect":"Deny","Action":["`+action+`"],"Resource":["`+arn+c.on+`"]}]}`)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorldOn(t, user, "--direct-ttl=0")
			w.expire(t, prefix+"/", 2)
			for _, r := range found(t, w.run(t), c.want) {
				if r.Status == doctor.Failure {
					says(t, r, "refused", "grant "+action)
				}
			}
			if w.s3 = root; !c.left {
				w.empty(t)
			}
		})
	}
}
