package doctor

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/molecule-ai/pendinguploads/blob"
	"github.com/molecule-ai/pendinguploads/blob/s3blob"
)

// upload is the multipart upload that the checks take step by step.
type upload struct {
	key  string
	id   *string
	part types.CompletedPart
}

// partAlgorithm is the checksum that a Store names in all steps, or none.
func (d *Doctor) partAlgorithm() types.ChecksumAlgorithm {
	if d.checksumRefused != nil || d.cfg.Settings.S3Checksum == string(s3blob.ChecksumWhenRequired) {
		return ""
	}
	return types.ChecksumAlgorithmCrc32
}

func (d *Doctor) create(ctx context.Context, name string) (upload, error) {
	in := &s3.CreateMultipartUploadInput{
		Bucket: aws.String(d.cfg.Settings.S3Bucket), Key: aws.String(d.newKey(name)), ChecksumAlgorithm: d.partAlgorithm(),
	}
	d.store.ProtectCreate(in)
	out, err := d.store.API().CreateMultipartUpload(ctx, in)
	d.forgetRefused(err)
	if err != nil {
		return upload{}, err
	}
	d.uploads = append(d.uploads, blob.Unfinished{Key: *in.Key, UploadID: aws.ToString(out.UploadId)})
	return upload{key: *in.Key, id: out.UploadId}, nil
}

func (d *Doctor) checkCreate(ctx context.Context) verdict {
	var err error
	d.uploading, err = d.create(ctx, "parts")
	return d.verdictOf(err, "s3:PutObject", false)
}

// checkPart sends a part that is the last one, which may be small.
func (d *Doctor) checkPart(ctx context.Context) verdict {
	out, err := d.store.API().UploadPart(ctx, &s3.UploadPartInput{
		Bucket: aws.String(d.cfg.Settings.S3Bucket), Key: aws.String(d.uploading.key), UploadId: d.uploading.id, PartNumber: aws.Int32(1),
		Body: strings.NewReader(probeText), ContentLength: aws.Int64(int64(len(probeText))), ChecksumAlgorithm: d.partAlgorithm(),
	})
	if err == nil {
		d.uploading.part = types.CompletedPart{PartNumber: aws.Int32(1), ETag: out.ETag}
		if d.partAlgorithm() != "" {
			d.uploading.part.ChecksumCRC32 = out.ChecksumCRC32
		}
	}
	return d.verdictOf(err, "s3:PutObject", false)
}

func (d *Doctor) checkComplete(ctx context.Context) verdict {
	_, err := d.store.API().CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: aws.String(d.cfg.Settings.S3Bucket), Key: aws.String(d.uploading.key), UploadId: d.uploading.id,
		MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{d.uploading.part}},
	})
	if err == nil {
		d.ended(d.uploading)
	}
	return d.verdictOf(err, "s3:PutObject", false)
}

func (d *Doctor) checkAbort(ctx context.Context) verdict {
	u, err := d.create(ctx, "aborted")
	if err != nil {
		return fail("see "+nameCreate, "nothing to abort: %s", s3Said(err))
	}
	_, err = d.store.API().AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{
		Bucket: aws.String(d.cfg.Settings.S3Bucket), Key: aws.String(u.key), UploadId: u.id,
	})
	if err == nil {
		d.ended(u)
	}
	return d.verdictOf(err, "s3:AbortMultipartUpload", false)
}

// ended takes an upload off the list of those that remain to be aborted.
func (d *Doctor) ended(u upload) {
	d.uploads = slices.DeleteFunc(d.uploads, func(other blob.Unfinished) bool { return other.UploadID == aws.ToString(u.id) })
}
