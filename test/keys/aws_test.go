//go:build aws

package keys_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/molecule-ai/pendinguploads/internal/devstack"
)

// run runs a tool that has the bucket's credentials, and no settings of whoever
// runs the tests.
func run(t *testing.T, bucket devstack.S3, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(),
		"AWS_ACCESS_KEY_ID="+bucket.AccessKey, "AWS_SECRET_ACCESS_KEY="+bucket.SecretKey, "AWS_DEFAULT_REGION="+bucket.Region,
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_PAGER=", "PYTHONWARNINGS=ignore")
	if bucket.SessionToken != "" {
		cmd.Env = append(cmd.Env, "AWS_SESSION_TOKEN="+bucket.SessionToken)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, stderr.String())
	}
	return string(out)
}

// listWithBoto3 prints an array of {Key, Size, ContentType}, after a look at each
// object's bytes.
const listWithBoto3 = `
import boto3, json, sys
from botocore.config import Config

endpoint, bucket = sys.argv[1:]
s3 = boto3.client("s3", endpoint_url=endpoint, config=Config(s3={"addressing_style": "path"}))
objects = []
for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
    for o in page.get("Contents", []):
        got = s3.get_object(Bucket=bucket, Key=o["Key"])
        if len(got["Body"].read()) != o["Size"]:
            sys.exit(o["Key"] + " has another length than listed")
        objects.append({"Key": o["Key"], "Size": o["Size"], "ContentType": got["ContentType"]})
print(json.dumps(objects))
`

func TestBoto3AndTheCommandLineSeeTheDocumentedKeys(t *testing.T) {
	t.Parallel()
	devstack.EachS3User(t, func(t *testing.T, bucket devstack.S3) {
		want := stage(t, bucket)
		var got []object
		out := run(t, bucket, "python3", "-c", listWithBoto3, bucket.Endpoint, bucket.Bucket)
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("boto3: %s", diff)
		}

		got = nil
		out = run(t, bucket, "aws", "--endpoint-url", bucket.Endpoint, "s3", "ls", "--recursive", "s3://"+bucket.Bucket)
		for line := range strings.Lines(out) {
			columns := strings.Fields(line) // date, time, size, key
			if len(columns) != 4 {
				t.Fatalf("aws s3 ls: %q", line)
			}
			size, err := strconv.ParseInt(columns[2], 10, 64)
			if err != nil {
				t.Fatalf("aws s3 ls: %q: %v", line, err)
			}
			got = append(got, object{Key: columns[3], Size: size})
		}
		for i := range want {
			want[i].ContentType = ""
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("aws s3 ls: %s", diff)
		}

		// A level at a time: the prefix holds a folder for each workspace.
		out = run(t, bucket, "aws", "--endpoint-url", bucket.Endpoint, "s3", "ls", "s3://"+bucket.Bucket+"/"+prefix+"/")
		var folders []string
		for _, o := range want {
			ws, _, _ := strings.Cut(strings.TrimPrefix(o.Key, prefix+"/"), "/")
			if line := "PRE " + ws + "/"; len(folders) == 0 || folders[len(folders)-1] != line {
				folders = append(folders, line)
			}
		}
		var listed []string
		for line := range strings.Lines(out) {
			listed = append(listed, strings.TrimSpace(line))
		}
		if diff := cmp.Diff(folders, listed); diff != "" {
			t.Errorf("aws s3 ls of the prefix: %s", diff)
		}
	})
}
