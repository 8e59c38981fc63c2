// Package cloudtrail asks AWS CloudTrail who let a KMS key sign, and when.
//
// It returns what the event history says and draws no conclusion from silence:
// events arrive minutes late and without a guarantee, so that a quiet window
// proves something only beside an event that is known to have happened.
//
// It refuses questions that the event history cannot answer: windows that reach
// back further than the 90 days it keeps, by CloudTrail's own clock. An answer
// is either whole or says that it is not; whatever goes wrong on the way is an
// error, never an empty answer. The history is that of one account and Region:
// the replicas of a multi-Region key have to be asked for one by one.
//
// Source: AWS CloudTrail API Reference, LookupEvents; AWS KMS Developer Guide,
// "Logging AWS KMS API calls with AWS CloudTrail".
package cloudtrail

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/awsapi"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"
)

// Options sets the patience of a Client. The zero value suits production.
type Options struct {
	// Attempts is how often one request is tried at most; 6 if zero.
	Attempts int
	// Backoff is the longest pause between two attempts; 10 s if zero.
	Backoff time.Duration
	// Timeout ends one attempt; 30 s if zero.
	Timeout time.Duration
	// Pace is the pause between two requests; 600 ms if zero, which keeps
	// below the two requests a second that an account has in a Region.
	Pace time.Duration
}

// Client calls CloudTrail. It may be used by several goroutines at once, which
// then share its pace.
type Client struct {
	trail *cloudtrail.Client
	pace  time.Duration

	mu    sync.Mutex // held by the request under way
	asked bool       // one was made: pause before the next
}

// New makes a Client with the SDK's standard chain of credentials and settings;
// AWS_ENDPOINT_URL_CLOUDTRAIL is honoured. It calls nobody. Retries draw on the
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
	if o.Pace == 0 {
		o.Pace = pace
	}
	cfg, err := awsapi.Config(ctx, "", awsapi.Patience{Attempts: o.Attempts, Backoff: o.Backoff, Timeout: o.Timeout})
	if err != nil {
		return nil, &Error{err.Error(), 2, err}
	}
	trail := cloudtrail.NewFromConfig(cfg, func(to *cloudtrail.Options) { to.HTTPClient = awsapi.Sender(ctx, to.HTTPClient) })
	return &Client{trail: trail, pace: o.Pace}, nil
}

// Query asks for the signatures that a key was used for.
type Query struct {
	// KeyARN is the key's ARN, not an alias; its Region is the one asked.
	KeyARN string
	// From and To bound the time of the events, both included.
	From, To time.Time
	// Enough ends the reading after so many signatures that were made, the
	// newest first; 0 reads the window to its end. A key in service leaves
	// one event for each signature, and a page of 50 takes half a second.
	Enough int
}

// Use is one call of Sign or GenerateMac.
type Use struct {
	Time    time.Time
	EventID string
	User    string // ARN of the caller, or what CloudTrail names instead
	// ErrorCode is AWS's name of the error when the call failed. A dry run
	// fails with DryRunOperationException.
	ErrorCode string
	DryRun    bool
}

// Signed tells whether the call made a signature or MAC.
func (u Use) Signed() bool { return u.ErrorCode == "" && !u.DryRun }

// Answer is what CloudTrail knew when it was asked.
type Answer struct {
	// To ends what was asked; it is never later than AsOf.
	To time.Time
	// AsOf is CloudTrail's own clock when it was asked. Events of the last
	// minutes before it may still be missing.
	AsOf time.Time
	// Uses are the calls in the window, the newest first.
	Uses []Use
}

// retention is how long the event history keeps an event.
const retention = 90 * 24 * time.Hour

// Uses reads the calls that let a key sign. It needs cloudtrail:LookupEvents.
func (c *Client) Uses(ctx context.Context, q Query) (Answer, error) {
	key, err := arn.Parse(q.KeyARN)
	if err != nil || key.Service != "kms" || key.Region == "" || !strings.HasPrefix(key.Resource, "key/") {
		return Answer{}, q.refuse("this is no ARN of a KMS key; it has the form arn:aws:kms:REGION:ACCOUNT:key/ID")
	}
	if q.From.IsZero() || !q.From.Before(q.To) {
		return Answer{}, q.refuse("the window from " + stamp(q.From) + " to " + stamp(q.To) + " is empty; check the times")
	}
	// The parameters stay the same over all pages, or the token is refused.
	in := &cloudtrail.LookupEventsInput{
		StartTime:        &q.From,
		EndTime:          &q.To,
		MaxResults:       aws.Int32(50),
		LookupAttributes: []types.LookupAttribute{{AttributeKey: types.LookupAttributeKeyResourceName, AttributeValue: &q.KeyARN}},
	}
	answer := Answer{To: q.To}
	seen := map[string]bool{}
	for signed := 0; ; {
		out, err := c.lookup(ctx, in, key.Region)
		if err != nil {
			return Answer{}, q.fail(key.Region, err)
		}
		if answer.AsOf.IsZero() {
			if err := answer.date(q, out); err != nil {
				return Answer{}, err
			}
		}
		for _, e := range out.Events {
			use, ok, err := read(e, q.KeyARN)
			if err != nil {
				return Answer{}, q.doubt(err.Error())
			}
			if !ok || seen[use.EventID] {
				continue
			}
			seen[use.EventID] = true
			answer.Uses = append(answer.Uses, use)
			if use.Signed() {
				signed++
			}
		}
		if out.NextToken == nil || q.Enough > 0 && signed >= q.Enough {
			return answer, nil
		}
		in.NextToken = out.NextToken
	}
}

// lookup makes one request, not before its turn.
func (c *Client) lookup(ctx context.Context, in *cloudtrail.LookupEventsInput, region string) (*cloudtrail.LookupEventsOutput, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked {
		select {
		case <-time.After(c.pace):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.asked = true
	return c.trail.LookupEvents(ctx, in, func(o *cloudtrail.Options) { o.Region = region })
}

// date sets the answer's clock, and refuses a window of which CloudTrail has
// forgotten the beginning.
func (a *Answer) date(q Query, out *cloudtrail.LookupEventsOutput) error {
	now, ok := awsmiddleware.GetServerTime(out.ResultMetadata)
	if !ok || now.IsZero() {
		return q.doubt("the answer has no date")
	}
	if q.From.Before(now.Add(-retention)) {
		return q.doubt("the window begins at " + stamp(q.From) + ", and CloudTrail's event history keeps 90 days; look into the trail's log files for the time before " + stamp(now.Add(-retention)))
	}
	a.AsOf = now
	if a.To.After(now) {
		a.To = now
	}
	return nil
}
