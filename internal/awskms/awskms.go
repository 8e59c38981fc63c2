// Package awskms speaks to AWS KMS: it makes the next signing key, describes
// and checks a key, reads its public half, lets it sign an audit digest, and
// enables or disables it.
//
// It refuses keys outside the closed list of five key specs, key ids that KMS
// does not know, and disabling an HMAC key. It has no call that deletes a key,
// schedules a deletion or deletes key material.
//
// It is safe to run again at any time. Reads are retried a few times; CreateKey,
// which has no idempotency token, is never sent again before a search for the
// key that a lost answer may have left behind (see [Client.Create]). Errors are
// one line, name the call, the key and the Region, and hold no credential.
package awskms

import (
	"context"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awsapi"
	"github.com/agent-manager/audit-signer-rotation/internal/patience"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// Options sets the Region and the patience of a Client. The zero value takes
// the Region from the environment and suits production.
type Options struct {
	// Region is used for key ids and alias names; an ARN names its own.
	Region string
	// Attempts is how often one call is tried at most; 4 if zero.
	Attempts int
	// Backoff is the longest pause between two attempts; 5 s if zero.
	Backoff time.Duration
	// Timeout ends one attempt; 30 s if zero.
	Timeout time.Duration
	// Settle is how long a key that a lost CreateKey may have made is looked
	// for, and how long a change may take to show; 60 s if zero.
	Settle time.Duration
}

// Client calls AWS KMS. It may be used by several goroutines at once.
type Client struct {
	kms      *kms.Client
	region   string
	local    bool // KMS is on this machine
	budget   *patience.Budget
	attempts int
	backoff  time.Duration
	settle   time.Duration
	seen     *sync.Map // ARNs of keys that KMS has said to exist
}

// New makes a Client with the SDK's standard chain of credentials and settings
// (AWS SDKs and Tools Reference Guide); AWS_ENDPOINT_URL_KMS is honoured. It
// calls nobody: missing credentials show at the first call. Retries draw on the
// context's budget ([patience.From]).
func New(ctx context.Context, o Options) (*Client, error) {
	if o.Attempts == 0 {
		o.Attempts = attempts
	}
	if o.Backoff == 0 {
		o.Backoff = longestPause
	}
	if o.Timeout == 0 {
		o.Timeout = attemptTime
	}
	if o.Settle == 0 {
		o.Settle = settleTime
	}
	cfg, err := awsapi.Config(ctx, o.Region, awsapi.Patience{Attempts: o.Attempts, Backoff: o.Backoff, Timeout: o.Timeout})
	if err != nil {
		return nil, &Error{Message: err.Error(), exit: 2, err: err}
	}
	client := kms.NewFromConfig(cfg, func(to *kms.Options) { to.HTTPClient = awsapi.Sender(ctx, to.HTTPClient) })
	return &Client{client, cfg.Region, local(client.Options().BaseEndpoint), patience.From(ctx), o.Attempts, o.Backoff, o.Settle, &sync.Map{}}, nil
}

// local tells whether an endpoint is on this machine.
func local(endpoint *string) bool {
	u, err := url.Parse(aws.ToString(endpoint))
	if err != nil {
		return false
	}
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// target is the key that a call is about, and where it is.
type target struct{ keyID, region string }

// at says where a key is: an ARN is asked in its own Region, every other name
// in the client's.
func (c *Client) at(keyID string) (target, error) {
	t := target{keyID, c.region}
	if strings.HasPrefix(keyID, "arn:") {
		a, err := arn.Parse(keyID)
		key := strings.HasPrefix(a.Resource, "key/") || strings.HasPrefix(a.Resource, "alias/")
		if err != nil || a.Service != "kms" || a.Region == "" || !key {
			return t, t.refuse("this is no ARN of a KMS key or alias; give one of the form arn:aws:kms:REGION:ACCOUNT:key/ID")
		}
		t.region = a.Region
	}
	switch {
	case keyID == "":
		return t, t.refuse("the key id is empty; set kms-key-id")
	case t.region == "":
		return t, t.refuse("no AWS Region is set; set AWS_REGION or give the key's ARN")
	}
	return t, nil
}

// here applies the target's Region to one call.
func (t target) here(o *kms.Options) { o.Region = t.region }

// eventually asks until done says so, with growing pauses that sum up to
// Settle, or to the run's budget, because KMS is eventually consistent (AWS KMS Developer Guide, "KMS
// eventual consistency"). It returns the last answer and error, the
// budget's or the context's.
func (c *Client) eventually(ctx context.Context, ask func() (done bool, err error)) (bool, error) {
	pause := c.settle / 32
	for waited := time.Duration(0); ; waited, pause = waited+pause, min(2*pause, c.settle/4) {
		done, err := ask()
		if done || waited >= c.settle {
			return done, err
		}
		if spent := c.wait(ctx, pause, err); spent != nil {
			return false, spent
		}
	}
}

// wait pauses, as far as the run's budget allows; cause is why.
func (c *Client) wait(ctx context.Context, d time.Duration, cause error) error {
	if err := c.budget.Pause(d, cause); err != nil {
		return err
	}
	return sleep(ctx, d)
}

// known repeats a call about a key of the rotation, which KMS has said to exist,
// while another part of KMS has not heard of it yet.
func (c *Client) known(ctx context.Context, keyID string, call func() error) error {
	if _, ok := c.seen.Load(keyID); !ok {
		return call()
	}
	_, err := c.eventually(ctx, func() (bool, error) {
		err := call()
		return !awsapi.Is(err, "NotFoundException"), err
	})
	return err
}
