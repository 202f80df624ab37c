package doctor

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

// objects is what the checks of the object store share.
type objects struct {
	store  *s3blob.Store // as serve has it
	inside *s3blob.Store // the same, signing for S3_ENDPOINT
	client *http.Client  // trusts whom the store's own client trusts
	opened error         // why there is no store
	first  answer        // to the first question, whatever it said

	dir     string // what the keys of all probes begin with
	keys    []string
	uploads []blob.Unfinished

	checksumRefused error // why puts go without flexible checksums
	noSHA256        bool  // puts that carry one are refused
	conditional     bool  // puts can be bound to an absent object
	uploading       upload
	rules           *rules
}

// probeText is what probes hold.
const probeText = "a probe of pendinguploads doctor\n"

// probeDir is the folder of all probes below the prefix.
const probeDir = ".doctor"

// prefixed is a key below the prefix.
func (d *Doctor) prefixed(key string) string {
	if p := d.cfg.Settings.S3Prefix; p != "" {
		return p + "/" + key
	}
	return key
}

// open makes the clients of the object store; it asks nothing.
func (d *Doctor) open(ctx context.Context) error {
	d.dir = d.prefixed(probeDir + "/" + strings.ToLower(rand.Text()) + "/")
	return d.openStores(ctx, s3blob.ChecksumMode(d.cfg.Settings.S3Checksum))
}

func (d *Doctor) openStores(ctx context.Context, mode s3blob.ChecksumMode) error {
	pool, err := blob.NewPool(blob.PoolConfig{BudgetBytes: 2 * blob.DefaultPartBytes})
	if err != nil {
		return err
	}
	cfg := d.cfg.Settings.StoreConfig(pool, d.cfg.Logger)
	cfg.Credentials, cfg.Checksum = d.cfg.Credentials, mode
	store, err := s3blob.Open(ctx, cfg)
	if err != nil {
		return err
	}
	inside := store
	if cfg.PublicEndpoint != "" {
		cfg.PublicEndpoint = ""
		if inside, err = s3blob.Open(ctx, cfg); err != nil {
			return err
		}
	}
	d.store, d.inside = store, inside
	if d.client == nil {
		d.client = plainClient(store)
	}
	return nil
}

// plainClient sends requests as they are, by way of a transport like the store's,
// with its proxy and its AWS_CA_BUNDLE.
func plainClient(store *s3blob.Store) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if client, ok := store.API().(*s3.Client); ok {
		if like, ok := client.Options().HTTPClient.(interface{ GetTransport() *http.Transport }); ok {
			transport = like.GetTransport()
		}
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// newKey is the key of a probe, which is removed in the end.
func (d *Doctor) newKey(name string) string {
	key := d.dir + name
	d.keys = append(d.keys, key)
	return key
}

// forgetRefused takes back the key that was made last where nothing was put.
func (d *Doctor) forgetRefused(err error) {
	if refused(err) {
		d.keys = d.keys[:len(d.keys)-1]
	}
}

func (d *Doctor) put(ctx context.Context, name string) (key string, err error) {
	key = d.newKey(name)
	err = d.store.Put(ctx, key, strings.NewReader(probeText), blob.PutOptions{ContentType: "text/plain"})
	d.forgetRefused(err)
	return key, err
}

// grant is what to do about an action that is refused.
func (d *Doctor) grant(actions string, onBucket bool) string {
	resource := d.cfg.Settings.S3Bucket
	if !onBucket {
		resource += "/" + d.prefixed("*")
	}
	return fmt.Sprintf("grant %s on arn:aws:s3:::%s", actions, resource)
}

// verdictOf judges a call that needs a permission.
func (d *Doctor) verdictOf(err error, actions string, onBucket bool) verdict {
	switch {
	case err == nil:
		return ok("allowed")
	case refused(err):
		return fail(d.grant(actions, onBucket), "refused: %s", s3Said(err))
	}
	return fail("see docs/stores.md for what a store must offer", "%s", s3Said(err))
}

// noBucket stands for all checks of the object store where there is none.
func (d *Doctor) noBucket(context.Context) verdict {
	return ok("S3_BUCKET is unset: content stays in PostgreSQL")
}
