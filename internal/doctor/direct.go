package doctor

import (
	"context"
	"errors"
	"strings"

	"github.com/molecule-ai/pendinguploads/blob"
)

// checkDirect tries what those who hold a presigned PUT could make of it. The
// service does the same before it hands one out, and then answers 422.
func (d *Doctor) checkDirect(ctx context.Context) verdict {
	if d.cfg.Settings.DirectTTL == 0 {
		return ok("DIRECT_TTL is 0: there are none")
	}
	if d.noSHA256 {
		return skip("not examined, see %s", nameChecksum)
	}
	const without = "; or set DIRECT_TTL=0"
	found, err := d.store.DirectSupport(ctx, strings.TrimSuffix(d.dir, "/"))
	switch {
	case errors.Is(err, blob.ErrProbeRemains):
		return warn("grant s3:DeleteObject"+without, "they are refused: %s", s3Said(err))
	case err != nil:
		return warn("look at what is between here and the store"+without,
			"they are refused, for nobody knows what the store makes of presigned PUTs: %s", s3Said(err))
	case len(found.Taken) > 0:
		return fail("bind the service's identity with the policy in docs/direct.md, which does not bind MinIO's root user"+without,
			"the store lets a presigned PUT copy or write other objects: it heeds %s, which is not signed", strings.ToLower(strings.Join(found.Taken, ", ")))
	case !found.Safe():
		return warn("use a store, or a release of it, that has one of the two"+without,
			"they are refused: see %s and %s", nameChecksum, nameConditional)
	}
	if found.NoParts != "" {
		return ok("a presigned PUT writes what was signed, and nothing else; large files are not sent in parts: %s", found.NoParts)
	}
	return ok("a presigned PUT writes what was signed, and nothing else")
}
