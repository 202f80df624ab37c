// Package s3blob keeps objects in a bucket of Amazon S3, MinIO or any other
// store that speaks the S3 protocol.
//
// # Object layout
//
// A Store puts an object under exactly the key it is given. The service's keys
// are
//
//	<prefix>/<workspace_id>/<file_id>
//
// both ids UUIDs in lower-case 8-4-4-4-12 form. File names of uploaders never
// enter a key. The bucket may be shared with other software as long as the
// prefix is not. Versioning of the bucket should be off, or a lifecycle rule
// should expire noncurrent versions: a delete only hides a version.
//
// # How an object is written
//
// A body that ends inside the first part buffer is one PutObject of known
// length. A longer one is a multipart upload: parts are sent while the next one
// is read, in buffers of one blob.Pool, and CompleteMultipartUpload makes the
// object visible at once or not at all. When anything fails, parts on their way
// are waited for, the upload is aborted, and the key is deleted where the last
// answer left open whether the object exists. These clean-ups go on after the
// caller's context ended. What they cannot reach (the process was killed, the
// store was gone) is found through List and ListUnfinished.
//
// # Permissions
//
// The identity needs these actions, and no more; BUCKET and PREFIX are to be
// replaced:
//
//	{
//	  "Version": "2012-10-17",
//	  "Statement": [
//	    {
//	      "Sid": "PendingUploadsObjects",
//	      "Effect": "Allow",
//	      "Action": [
//	        "s3:GetObject",
//	        "s3:PutObject",
//	        "s3:DeleteObject",
//	        "s3:AbortMultipartUpload",
//	        "s3:ListMultipartUploadParts"
//	      ],
//	      "Resource": "arn:aws:s3:::BUCKET/PREFIX/*"
//	    },
//	    {
//	      "Sid": "PendingUploadsBucket",
//	      "Effect": "Allow",
//	      "Action": [
//	        "s3:ListBucket",
//	        "s3:ListBucketMultipartUploads"
//	      ],
//	      "Resource": "arn:aws:s3:::BUCKET"
//	    }
//	  ]
//	}
//
// s3:PutObject covers CreateMultipartUpload, UploadPart and
// CompleteMultipartUpload, s3:GetObject covers HeadObject. s3:ListBucket also
// covers HeadBucket, and without it S3 answers 403 instead of 404 for an absent
// object. s3:ListMultipartUploadParts is for CompleteParts alone. EnsureBucket needs s3:CreateBucket on the bucket when it is to create
// it. Config.Tags need s3:PutObjectTagging on the objects. A bucket encrypted with
// a KMS key also needs kms:GenerateDataKey and kms:Decrypt on that key. A
// presigned request may do what the identity that signed it may. The methods of
// Admin name what they need besides.
//
// MinIO's presigned requests need denials on top, and an identity other than the
// root user, whom no policy binds. A put with another object to copy; content in
// the form for which MinIO looks at no signature of a URL (over HTTPS the SDK
// sends it as well, unless Config.Checksum is ChecksumWhenRequired); archives to
// be unpacked, which are checked against a folder:
//
//	{
//	  "Effect": "Deny", "Action": "s3:PutObject",
//	  "Resource": "arn:aws:s3:::BUCKET/*",
//	  "Condition": {"Null": {"s3:x-amz-copy-source": "false"}}
//	},
//	{
//	  "Effect": "Deny", "Action": "s3:PutObject",
//	  "Resource": "arn:aws:s3:::BUCKET/*",
//	  "Condition": {"StringEquals": {"s3:x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER"}}
//	},
//	{
//	  "Effect": "Deny", "Action": "s3:PutObject",
//	  "Resource": ["arn:aws:s3:::BUCKET", "arn:aws:s3:::BUCKET/*/"]
//	}
//
// # Presigned requests
//
// They are made by a presign client of its own, for Config.PublicEndpoint where
// that is set: the host is part of the signature, and a URL moved to another host
// is refused. A put is bound to its key by the signature, to its size by the
// signed Content-Length, and to its content by the signed x-amz-checksum-sha256,
// which the store compares with what arrives. A store that ignores that header
// does not bind the content; Head then has no SHA-256 for what was put. A store
// that heeds headers which are not signed binds nothing: DirectSupport tries.
//
// # Credentials
//
// Config.Credentials, or the SDK's chain: environment, shared profile, web
// identity, container and instance metadata. The shared files are read again when
// they change, and a web identity's token whenever its credentials run out, so
// both can be rotated under a running Store.
//
// # What other stores must offer
//
// Strong read-after-write consistency; GetObject with Range; DeleteObject and
// DeleteObjects; ListObjectsV2 in the order of the keys' bytes; multipart
// uploads with parts of 5 MiB, and their abort. Flexible checksums (CRC32) are
// used unless Config.Checksum says when_required; DeleteObjects carries one in any
// case, then Content-MD5, and is done without where a store has no such thing.
// docs/stores.md says which stores were tried, and how others differ.
//
// ListMultipartUploads may be partial: MinIO lists by exact key or the whole
// bucket, never by prefix, and forgets after a restart what it cannot list any
// more (its own clean-up drops unfinished uploads after 24 hours). ListUnfinished
// therefore asks a second time for the whole bucket when the prefix yields
// nothing. VersityGW refuses the second page by key and upload, and is asked by key
// alone. A lifecycle rule with AbortIncompleteMultipartUpload should stand
// behind it.
package s3blob
