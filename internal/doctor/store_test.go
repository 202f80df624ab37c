package doctor_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
	"github.com/molecule-ai/pendinguploads/internal/doctor"
)

// instead answers what the predicate picks in the store's place.
func instead(pick func(*http.Request) bool, answer http.HandlerFunc) func(http.Handler) http.Handler {
	return func(store http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if pick(r) {
				answer(w, r)
				return
			}
			store.ServeHTTP(w, r)
		})
	}
}

// editing changes the headers of the store's answers.
func editing(edit func(r *http.Request, h http.Header)) func(http.Handler) http.Handler {
	return func(store http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			store.ServeHTTP(&edited{ResponseWriter: w, edit: func(h http.Header) { edit(r, h) }}, r)
		})
	}
}

type edited struct {
	http.ResponseWriter
	edit func(http.Header)
	done bool
}

func (e *edited) WriteHeader(status int) {
	if !e.done {
		e.done = true
		e.edit(e.Header())
	}
	e.ResponseWriter.WriteHeader(status)
}

func (e *edited) Write(b []byte) (int, error) {
	if !e.done {
		e.WriteHeader(http.StatusOK)
	}
	return e.ResponseWriter.Write(b)
}

func taken(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }

func TestChecksum(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wrap   func(http.Handler) http.Handler
		status doctor.Status
		says   []string
	}{
		"none is taken": {instead(func(r *http.Request) bool {
			for name := range r.Header {
				if strings.HasPrefix(name, "X-Amz-Checksum-") && name != "X-Amz-Checksum-Mode" || strings.HasPrefix(name, "X-Amz-Sdk-Checksum-") || name == "X-Amz-Trailer" {
					return true
				}
			}
			return false
		}, func(w http.ResponseWriter, _ *http.Request) { refusal(w, http.StatusBadRequest, "InvalidRequest") }),
			doctor.Failure, []string{"InvalidRequest", "S3_CHECKSUM=when_required"}},
		"no SHA-256 is taken": {instead(func(r *http.Request) bool {
			return r.Header.Get("X-Amz-Checksum-Sha256") != ""
		}, func(w http.ResponseWriter, _ *http.Request) { refusal(w, http.StatusBadRequest, "InvalidRequest") }),
			doctor.Warning, []string{"is refused", "direct uploads"}},
		"none is told": {editing(func(_ *http.Request, h http.Header) { h.Del("X-Amz-Checksum-Sha256") }),
			doctor.Warning, []string{"does not tell"}},
		"none is compared": {instead(func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "/wrongly-summed")
		}, taken), doctor.Warning, []string{"does not fit"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.behind(t, c.wrap)
			says(t, found(t, w.run(t), others{"checksum": c.status})["checksum"], c.says...)
			w.empty(t)
		})
	}
}

func TestConditionalWrites(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]http.HandlerFunc{
		"ignored": taken,
		"unknown": func(w http.ResponseWriter, _ *http.Request) { refusal(w, http.StatusNotImplemented, "NotImplemented") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.behind(t, instead(func(r *http.Request) bool { return r.Header.Get("If-None-Match") != "" }, answer))
			says(t, found(t, w.run(t), others{"conditional writes": doctor.Warning})["conditional writes"], "If-None-Match")
		})
	}
}

func TestPresign(t *testing.T) {
	t.Parallel()
	signed := func(r *http.Request) bool {
		return r.URL.Query().Has("X-Amz-Signature") && r.Method != http.MethodOptions
	}
	t.Run("refused inside", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.settings.S3PublicEndpoint = w.settings.S3Endpoint
		w.behind(t, denying(signed))
		byName := found(t, w.run(t), others{"presign": doctor.Failure}.skipped("direct uploads"))
		says(t, byName["presign"], "PUT by a presigned URL", "403 AccessDenied")
		says(t, byName["public presign"], "PUT and GET work", strings.TrimPrefix(w.s3.Endpoint, "http://"))
	})
	t.Run("get refused outside", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.settings.S3PublicEndpoint = front(t, w.s3, denying(func(r *http.Request) bool { return signed(r) && r.Method == http.MethodGet })).URL
		says(t, found(t, w.run(t), others{"public presign": doctor.Failure})["public presign"], "GET by a presigned URL", "403 AccessDenied")
	})
	t.Run("another host outside", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.settings.S3PublicEndpoint = front(t, w.s3, func(store http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				r.Host = strings.TrimPrefix(w.s3.Endpoint, "http://")
				store.ServeHTTP(rw, r)
			})
		}).URL
		says(t, found(t, w.run(t), others{"public presign": doctor.Failure})["public presign"], "SignatureDoesNotMatch", "Host")
	})
	t.Run("nobody outside", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.settings.S3PublicEndpoint = "http://" + closed(t)
		says(t, found(t, w.run(t), others{"public presign": doctor.Failure}.skipped("cors"))["public presign"], "connection refused", "S3_PUBLIC_ENDPOINT")
	})
	t.Run("other headers", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.behind(t, editing(func(r *http.Request, h http.Header) {
			if signed(r) {
				h.Del("Content-Disposition")
			}
		}))
		says(t, found(t, w.run(t), others{"presign": doctor.Warning})["presign"], "other headers")
	})
}

func TestStoreClock(t *testing.T) {
	t.Parallel()
	for by, status := range map[time.Duration]doctor.Status{
		30 * time.Second: doctor.Warning, -30 * time.Second: doctor.Warning, 10 * time.Minute: doctor.Failure, -10 * time.Minute: doctor.Failure,
	} {
		w := newWorld(t)
		w.behind(t, editing(func(_ *http.Request, h http.Header) { h.Set("Date", time.Now().Add(by).UTC().Format(http.TimeFormat)) }))
		says(t, found(t, w.run(t), others{"s3 clock": status})["s3 clock"], "NTP", "15 minutes")
	}
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.behind(t, instead(func(*http.Request) bool { return true }, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			refusal(w, http.StatusForbidden, "RequestTimeTooSkewed")
		}))
		want := withoutBucket().skipped("bucket")
		want["s3 clock"] = doctor.Failure
		says(t, found(t, w.run(t), want)["bucket"], "see s3 clock")
	})
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	hidden := editing(func(_ *http.Request, h http.Header) { h.Set("Server", "something else") })
	kept := func(abort, expire int) func(http.Handler) http.Handler {
		return instead(func(r *http.Request) bool { return r.URL.Query().Has("lifecycle") }, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `<LifecycleConfiguration><Rule><ID>theirs</ID><Status>Enabled</Status><Filter><Prefix></Prefix></Filter>
				<AbortIncompleteMultipartUpload><DaysAfterInitiation>%d</DaysAfterInitiation></AbortIncompleteMultipartUpload>
				<Expiration><Days>%d</Days></Expiration></Rule></LifecycleConfiguration>`, abort, expire)
		})
	}
	for name, c := range map[string]struct {
		spoil func(t *testing.T, w *world)
		want  others
		says  map[string]string
	}{
		"no rule for objects": {func(t *testing.T, w *world) {
			if _, err := w.s3.Client().DeleteBucketLifecycle(t.Context(), &s3.DeleteBucketLifecycleInput{Bucket: &w.s3.Bucket}); err != nil {
				t.Fatal(err)
			}
		}, others{"lifecycle objects": doctor.Warning}, map[string]string{"lifecycle objects": "doctor --fix", "lifecycle unfinished": "MinIO"}},
		"a rule for others' objects": {func(t *testing.T, w *world) { w.expire(t, "elsewhere/", 2) },
			others{"lifecycle objects": doctor.Warning}, map[string]string{"lifecycle objects": "no rule expires"}},
		"objects go too early": {func(t *testing.T, w *world) { w.expire(t, prefix+"/", 1) },
			others{"lifecycle objects": doctor.Failure}, map[string]string{"lifecycle objects": "needed for up to 26h0m0s"}},
		"no rule for uploads": {func(t *testing.T, w *world) { w.behind(t, hidden) },
			others{"lifecycle unfinished": doctor.Warning}, map[string]string{"lifecycle unfinished": "doctor --fix"}},
		"both rules": {func(t *testing.T, w *world) { w.behind(t, kept(1, 2)) },
			nil, map[string]string{"lifecycle unfinished": "after 1 day", "lifecycle objects": "after 2 days"}},
		"uploads go too early": {func(t *testing.T, w *world) {
			w.settings.MaxUploadTime, w.settings.OrphanGrace = 30*time.Hour, 40*time.Hour
			w.behind(t, kept(1, 3))
		}, others{"lifecycle unfinished": doctor.Failure}, map[string]string{"lifecycle unfinished": "may take 30h0m0s"}},
		"no such thing": {func(t *testing.T, w *world) {
			w.behind(t, instead(func(r *http.Request) bool { return r.URL.Query().Has("lifecycle") }, func(w http.ResponseWriter, _ *http.Request) {
				refusal(w, http.StatusNotImplemented, "NotImplemented")
			}))
		}, others{"lifecycle unfinished": doctor.Warning, "lifecycle objects": doctor.Warning}, map[string]string{"lifecycle objects": "no lifecycle rules"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.spoil(t, w)
			byName := found(t, w.run(t), c.want)
			for n, words := range c.says {
				says(t, byName[n], words)
			}
		})
	}
}

func TestCORS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.behind(t, denying(func(r *http.Request) bool {
		return r.Method == http.MethodOptions && r.Header.Get("Origin") == "http://localhost:3001" && r.Header.Get("Access-Control-Request-Method") == "PUT"
	}))
	says(t, found(t, w.run(t), others{"cors": doctor.Warning})["cors"], "may not send PUT from http://localhost:3001 —", "doctor --fix")
	w.settings.CORSOrigins = nil
	says(t, found(t, w.run(t), nil)["cors"], "CORS_ORIGINS is empty")
}

func TestPublicAccess(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		action, resource, says string
		blind                  bool // the policy's status may not be read
	}{
		"reading":           {action: "s3:GetObject", resource: "/" + prefix + "/*", says: "anybody can read objects"},
		"reading, unstated": {action: "s3:GetObject", resource: "/" + prefix + "/*", says: "anybody can read objects", blind: true},
		"listing":           {action: "s3:ListBucket", says: "anybody can list objects"},
		"listing, unstated": {action: "s3:ListBucket", says: "anybody can list objects", blind: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["*"]},"Action":[%q],"Resource":["arn:aws:s3:::%s%s"]}]}`,
				c.action, w.s3.Bucket, c.resource)
			if _, err := w.s3.Client().PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &w.s3.Bucket, Policy: &policy}); err != nil {
				t.Fatal(err)
			}
			if c.blind {
				w.as(identity(t, w.s3, statement{Effect: "Deny", Action: []string{"s3:GetBucketPolicyStatus"}, Resource: []string{arn(w.s3)}}))
			}
			says(t, found(t, w.run(t), others{"public access": doctor.Failure})["public access"], c.says, "policy")
			w.empty(t)
		})
	}
	t.Run("elsewhere", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.behind(t, instead(func(r *http.Request) bool { return r.URL.Query().Has("policyStatus") }, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, `<PolicyStatus><IsPublic>true</IsPublic></PolicyStatus>`)
		}))
		says(t, found(t, w.run(t), others{"public access": doctor.Failure})["public access"], "the bucket's policy is public")
	})
}

// TestOtherStore: VersityGW keeps no lifecycle rules, and answers no browser
// before CORS is set.
func TestOtherStore(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, devstack.VersityGW(t))
	found(t, w.run(t), others{"lifecycle unfinished": doctor.Warning, "lifecycle objects": doctor.Warning, "cors": doctor.Warning})
	w.empty(t)
}
