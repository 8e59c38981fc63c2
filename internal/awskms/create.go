package awskms

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/internal/awsapi"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// RotationTag is the tag that ties a key to the rotation it was made for.
const RotationTag = "audit-rotation-id"

// Creation asks for the key of one rotation.
type Creation struct {
	// Spec is one of Specs.
	Spec string
	// RotationID is part of the alias and the value of RotationTag: 1 to 128
	// letters, digits, hyphens and underscores.
	RotationID string
	// Description is stored with a new key.
	Description string
	// Tags are set on a new key, beside RotationTag.
	Tags map[string]string
}

// Created is the outcome of a Creation.
type Created struct {
	Key Key
	// Alias is the name that points to the key from now on.
	Alias string
	// New says that this call made the key; otherwise it was there already.
	New bool
	// Orphans are the ARNs of further keys with this rotation's tag, left by
	// lost answers or parallel runs. A person decides what becomes of them.
	Orphans []string
}

var rotationForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,128}$`)

func (in Creation) alias() string { return "alias/audit-signer-" + in.RotationID }

func (in Creation) check() error {
	t := target{keyID: in.alias()}
	if !slices.Contains(Specs, in.Spec) {
		hint := ""
		if strings.EqualFold(in.Spec, "ED25519") {
			hint = "; KMS calls Ed25519 ECC_NIST_EDWARDS25519"
		}
		return t.refuse(fmt.Sprintf("key spec %q is none of %s%s", in.Spec, strings.Join(Specs, ", "), hint))
	}
	if !rotationForm.MatchString(in.RotationID) {
		return t.refuse("the rotation id must be 1 to 128 letters, digits, hyphens or underscores")
	}
	if _, ok := in.Tags[RotationTag]; ok {
		return t.refuse("the tag " + RotationTag + " is set by this tool; leave it out")
	}
	return nil
}

// Create makes the key of a rotation, or returns the one that is there. CreateKey
// has no idempotency token, so the steps are ordered for being run again after a
// stop at any point:
//
//  1. the alias alias/audit-signer-ID exists: the rotation has its key;
//  2. a key carries the rotation's tag: an earlier run made it and stopped
//     before the alias; the oldest that is enabled and of the spec is taken;
//  3. runs that started together part: each waits for a random time, up to
//     ten seconds, and looks again, so that mostly one of them makes a key;
//  4. a key is made, with its tags in the same call, which is never repeated
//     blindly: after a lost answer the tag is searched for, for Options.Settle;
//  5. the alias is made, which settles the matter between parallel runs too.
//
// A key that has the alias is returned whatever its state: [Key.Check] it.
// Keys are never deleted; surplus ones are returned as Orphans (not looked for
// when the alias exists). It needs kms:CreateKey, kms:TagResource,
// kms:CreateAlias, kms:DescribeKey, kms:ListKeys and, on all keys of the
// account, kms:ListResourceTags.
func (c *Client) Create(ctx context.Context, in Creation) (Created, error) {
	if err := in.check(); err != nil {
		return Created{}, err
	}
	done, keys, err := c.look(ctx, in)
	if err != nil || done.Alias != "" {
		return done, err
	}
	key, ok := oldestFit(keys, in.Spec)
	if d := c.parting(); !ok && d > 0 {
		if err := sleep(ctx, d); err != nil {
			return Created{}, err
		}
		if done, keys, err = c.look(ctx, in); err != nil || done.Alias != "" {
			return done, err
		}
		key, ok = oldestFit(keys, in.Spec)
	}
	var made string
	if !ok {
		if key, err = c.createKey(ctx, in); err != nil {
			return Created{}, err
		}
		made = key.ARN
		// A parallel run may have made one as well: both take the oldest.
		if keys, err = c.tagged(ctx, in.RotationID); err != nil {
			return Created{}, err
		}
		if oldest, ok := oldestFit(keys, in.Spec); ok {
			key = oldest
		}
	}
	if key, err = c.commit(ctx, in, key); err != nil {
		return Created{}, err
	}
	done = Created{Key: key, Alias: in.alias(), New: key.ARN == made}
	for _, k := range keys {
		if k.ARN != key.ARN {
			done.Orphans = append(done.Orphans, k.ARN)
		}
	}
	if made != "" && made != key.ARN && !slices.Contains(done.Orphans, made) {
		done.Orphans = append(done.Orphans, made)
	}
	return done, nil
}

// look finds the rotation's key by its alias, done.Alias being set then, else the
// keys with its tag.
func (c *Client) look(ctx context.Context, in Creation) (done Created, keys []Key, err error) {
	key, err := c.aliased(ctx, in)
	if !awsapi.Is(err, "NotFoundException") {
		return Created{Key: key, Alias: in.alias()}, nil, err
	}
	keys, err = c.tagged(ctx, in.RotationID)
	return Created{}, keys, err
}

// aliased returns the key behind the rotation's alias, and makes sure that it is
// the rotation's: anybody who may create aliases can point one elsewhere.
func (c *Client) aliased(ctx context.Context, in Creation) (Key, error) {
	key, err := c.Describe(ctx, in.alias())
	if err != nil {
		return Key{}, err
	}
	t := target{in.alias(), key.Region}
	ours, err := c.hasTag(ctx, key.ARN, in.RotationID)
	switch {
	case err != nil:
		return Key{}, err
	case !ours:
		return Key{}, t.refuse(fmt.Sprintf("it points to %s, which lacks the tag %s=%s; somebody else made this alias, look into it and choose another rotation id", key.ARN, RotationTag, in.RotationID))
	case key.Spec != in.Spec:
		return Key{}, t.refuse(fmt.Sprintf("this rotation has a key already, of spec %s, not %s; keep that spec or choose another rotation id", key.Spec, in.Spec))
	}
	c.seen.Store(key.ARN, true)
	return key, nil
}

// tagged returns the keys with the rotation's tag, the oldest first. Keys whose
// tags may not be read are passed over, since a key made here has the default
// key policy and can be read like its siblings; but if none can be read, the
// permission is missing and nothing is known.
func (c *Client) tagged(ctx context.Context, rotationID string) ([]Key, error) {
	t := target{region: c.region}
	var found []Key
	var denied error
	readable := 0
	for pages := kms.NewListKeysPaginator(c.kms, &kms.ListKeysInput{Limit: aws.Int32(1000)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, t.fail("ListKeys", err)
		}
		for _, entry := range page.Keys {
			arn := aws.ToString(entry.KeyArn)
			ours, err := c.hasTag(ctx, arn, rotationID)
			switch {
			case awsapi.Is(err, "AccessDeniedException"):
				denied = err
				continue
			case awsapi.Is(err, "NotFoundException"): // deleted meanwhile
				continue
			case err != nil:
				return nil, err
			}
			readable++
			if !ours {
				continue
			}
			c.seen.Store(arn, true)
			key, err := c.Describe(ctx, arn)
			if err != nil {
				return nil, err
			}
			found = append(found, key)
		}
	}
	if denied != nil && readable == 0 {
		return nil, denied
	}
	slices.SortFunc(found, func(a, b Key) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ARN, b.ARN))
	})
	return found, nil
}

func (c *Client) hasTag(ctx context.Context, arn, rotationID string) (bool, error) {
	t, err := c.at(arn)
	if err != nil {
		return false, err
	}
	for pages := kms.NewListResourceTagsPaginator(c.kms, &kms.ListResourceTagsInput{KeyId: &arn}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx, t.here)
		if err != nil {
			return false, t.fail("ListResourceTags", err)
		}
		for _, tag := range page.Tags {
			if aws.ToString(tag.TagKey) == RotationTag {
				return aws.ToString(tag.TagValue) == rotationID, nil
			}
		}
	}
	return false, nil
}

func oldestFit(keys []Key, spec string) (Key, bool) {
	i := slices.IndexFunc(keys, func(k Key) bool { return k.Spec == spec && len(k.Check(nil)) == 0 })
	if i < 0 {
		return Key{}, false
	}
	return keys[i], true
}

// createKey calls CreateKey with the SDK's own retries off: it may be sent again
// only when it was refused for its rate, or when a lost answer has left no key
// with the tag.
func (c *Client) createKey(ctx context.Context, in Creation) (Key, error) {
	const operation = "CreateKey"
	t := target{region: c.region}
	tags := []types.Tag{{TagKey: aws.String(RotationTag), TagValue: &in.RotationID}}
	for _, name := range slices.Sorted(maps.Keys(in.Tags)) {
		tags = append(tags, types.Tag{TagKey: &name, TagValue: aws.String(in.Tags[name])})
	}
	request := &kms.CreateKeyInput{
		KeySpec:     types.KeySpec(in.Spec),
		KeyUsage:    kinds[in.Spec].usage,
		Origin:      types.OriginTypeAwsKms,
		Description: &in.Description,
		Tags:        tags,
	}
	for attempt := 1; ; attempt++ {
		out, err := c.kms.CreateKey(ctx, request, t.here, func(o *kms.Options) { o.Retryer = aws.NopRetryer{} })
		if err == nil {
			return t.key(operation, out.KeyMetadata)
		}
		failure := t.fail(operation, err)
		switch {
		case applied(err):
			key, found, err := c.lost(ctx, in, failure)
			if found || err != nil {
				return key, err
			}
		case awsapi.Throttled(failure.Code):
			if err := c.wait(ctx, c.backoff, err); err != nil {
				return Key{}, t.fail(operation, err)
			}
		default:
			return Key{}, failure
		}
		if attempt == c.attempts {
			return Key{}, failure
		}
	}
}

// lost looks for the key of a CreateKey call whose answer did not come. It
// reports "not found" only after a last search that succeeded.
func (c *Client) lost(ctx context.Context, in Creation, failure *Error) (key Key, found bool, err error) {
	found, err = c.eventually(ctx, func() (bool, error) {
		keys, err := c.tagged(ctx, in.RotationID)
		if err != nil {
			return false, err
		}
		var ok bool
		key, ok = oldestFit(keys, in.Spec)
		return ok, nil
	})
	if err != nil {
		err = fmt.Errorf("%w; a key with the tag %s=%s may exist all the same, and could not be looked for (%s): running this again finds it",
			failure, RotationTag, in.RotationID, awsapi.OneLine(err.Error()))
	}
	return key, found, err
}

// commit points the rotation's alias to the key, and returns the key that it
// points to in the end: another run may have been faster.
func (c *Client) commit(ctx context.Context, in Creation, key Key) (Key, error) {
	t := target{in.alias(), key.Region}
	// "Not found" is a new key, or then a new alias, that does not show yet.
	_, err := c.eventually(ctx, func() (bool, error) {
		_, err := c.kms.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(in.alias()), TargetKeyId: &key.ARN}, t.here)
		return !awsapi.Is(err, "NotFoundException"), err
	})
	if err != nil && !awsapi.Is(err, "AlreadyExistsException") {
		return Key{}, t.fail("CreateAlias", err)
	}
	var winner Key
	_, err = c.eventually(ctx, func() (bool, error) {
		var err error
		winner, err = c.aliased(ctx, in)
		return !awsapi.Is(err, "NotFoundException"), err
	})
	return winner, err
}
