package kmstest

import (
	"regexp"
	"strings"
	"time"
)

type alias struct {
	target  string // key id
	created time.Time
}

// metadata is a key in the form of KMS's KeyMetadata.
func (s *Server) metadata(k *storedKey) map[string]any {
	m := map[string]any{
		"AWSAccountId":          s.options.Account,
		"Arn":                   k.arn,
		"CreationDate":          seconds(k.Created),
		"CustomerMasterKeySpec": k.Spec,
		"Description":           k.Description,
		"Enabled":               k.State == Enabled,
		"KeyId":                 k.id,
		"KeyManager":            k.Manager,
		"KeySpec":               k.Spec,
		"KeyState":              k.State,
		"KeyUsage":              k.Usage,
		"MultiRegion":           len(k.Replicas) > 0,
		"Origin":                k.Origin,
	}
	switch k.Usage {
	case "SIGN_VERIFY":
		m["SigningAlgorithms"] = signingAlgorithms(k.Spec)
	case "GENERATE_VERIFY_MAC":
		m["MacAlgorithms"] = []string{strings.Replace(k.Spec, "HMAC_", "HMAC_SHA_", 1)}
	}
	if k.State == PendingDeletion {
		m["DeletionDate"] = seconds(s.options.Now().AddDate(0, 0, 30))
	}
	if len(k.Replicas) > 0 {
		replicas := []map[string]string{}
		for _, region := range k.Replicas {
			arn := strings.Replace(k.arn, ":"+s.options.Region+":", ":"+region+":", 1)
			replicas = append(replicas, map[string]string{"Arn": arn, "Region": region})
		}
		m["MultiRegionConfiguration"] = map[string]any{
			"MultiRegionKeyType": "PRIMARY",
			"PrimaryKey":         map[string]string{"Arn": k.arn, "Region": s.options.Region},
			"ReplicaKeys":        replicas,
		}
	}
	return m
}

// seconds is a time as JSON 1.1 carries it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

func describeKey(c *call) (any, error) {
	var in struct {
		KeyId       string
		GrantTokens []string
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	k, err := c.find(in.KeyId, true)
	if err != nil {
		return nil, err
	}
	return map[string]any{"KeyMetadata": c.server.metadata(k)}, nil
}

func enableKey(c *call) (any, error)  { return setState(c, Enabled) }
func disableKey(c *call) (any, error) { return setState(c, Disabled) }

func setState(c *call, state string) (any, error) {
	var in struct{ KeyId string }
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	k, err := c.find(in.KeyId, false)
	if err != nil {
		return nil, err
	}
	if err := k.changeable(); err != nil {
		return nil, err
	}
	k.State = state
	return struct{}{}, nil
}

// changeable refuses operations that manage a key which is to be deleted.
func (k *storedKey) changeable() error {
	if k.State != Enabled && k.State != Disabled {
		return fail("KMSInvalidStateException", "%s is in state %s.", k.arn, k.State)
	}
	return nil
}

// usable refuses cryptographic operations with a key that is not enabled.
func (k *storedKey) usable() error {
	switch k.State {
	case Enabled:
		return nil
	case Disabled:
		return fail("DisabledException", "%s is disabled.", k.arn)
	case PendingDeletion:
		return fail("KMSInvalidStateException", "%s is pending deletion.", k.arn)
	}
	return fail("KMSInvalidStateException", "%s is in state %s.", k.arn, k.State)
}

func listKeys(c *call) (any, error) {
	var in struct {
		Limit  *int
		Marker *string
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	var ids []string
	for id := range c.server.keys {
		ids = append(ids, id)
	}
	ids, more, err := page(ids, in.Marker, in.Limit, 100, 1000)
	if err != nil {
		return nil, err
	}
	keys, last := []map[string]string{}, ""
	for _, id := range ids {
		keys, last = append(keys, map[string]string{"KeyId": id, "KeyArn": c.server.keys[id].arn}), id
	}
	return listing("Keys", keys, last, more), nil
}

func tagResource(c *call) (any, error) {
	var in struct {
		KeyId string
		Tags  []tag
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if in.Tags == nil {
		return nil, invalid("Value null at 'tags' failed to satisfy constraint: Member must not be null")
	}
	k, err := c.find(in.KeyId, false)
	if err != nil {
		return nil, err
	}
	if err := k.changeable(); err != nil {
		return nil, err
	}
	return struct{}{}, putTags(k.Tags, in.Tags)
}

func listResourceTags(c *call) (any, error) {
	var in struct {
		KeyId  string
		Limit  *int
		Marker *string
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	k, err := c.find(in.KeyId, false)
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range k.Tags {
		names = append(names, name)
	}
	names, more, err := page(names, in.Marker, in.Limit, 50, 50)
	if err != nil {
		return nil, err
	}
	tags, last := []map[string]string{}, ""
	for _, name := range names {
		tags, last = append(tags, map[string]string{"TagKey": name, "TagValue": k.Tags[name]}), name
	}
	return listing("Tags", tags, last, more), nil
}

var aliasForm = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]+$`)

func createAlias(c *call) (any, error) {
	var in struct{ AliasName, TargetKeyId string }
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	if err := text("aliasName", in.AliasName, 256); err != nil {
		return nil, err
	}
	if !aliasForm.MatchString(in.AliasName) || strings.HasPrefix(in.AliasName, "alias/aws/") {
		return nil, fail("InvalidAliasNameException", "%s is not a name for an alias of a customer", in.AliasName)
	}
	if err := text("targetKeyId", in.TargetKeyId, 2048); err != nil {
		return nil, err
	}
	if strings.HasPrefix(in.TargetKeyId, "alias/") || strings.Contains(in.TargetKeyId, ":alias/") {
		return nil, fail("ValidationException", "Aliases must refer to keys. Not aliases")
	}
	k, err := c.find(in.TargetKeyId, false)
	if err != nil {
		return nil, err
	}
	if err := k.changeable(); err != nil {
		return nil, err
	}
	if _, ok := c.server.aliases[in.AliasName]; ok {
		return nil, fail("AlreadyExistsException", "An alias with the name %s already exists", c.server.arn(in.AliasName))
	}
	c.server.aliases[in.AliasName] = alias{k.id, c.server.options.Now()}
	return struct{}{}, nil
}

func listAliases(c *call) (any, error) {
	var in struct {
		KeyId  *string
		Limit  *int
		Marker *string
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	var only *storedKey
	if in.KeyId != nil {
		k, err := c.find(*in.KeyId, false)
		if err != nil {
			return nil, err
		}
		only = k
	}
	var names []string
	for name, a := range c.server.aliases {
		if only == nil || a.target == only.id {
			names = append(names, name)
		}
	}
	names, more, err := page(names, in.Marker, in.Limit, 50, 100)
	if err != nil {
		return nil, err
	}
	aliases, last := []map[string]any{}, ""
	for _, name := range names {
		a := c.server.aliases[name]
		aliases, last = append(aliases, map[string]any{
			"AliasName":       name,
			"AliasArn":        c.server.arn(name),
			"TargetKeyId":     a.target,
			"CreationDate":    seconds(a.created),
			"LastUpdatedDate": seconds(a.created),
		}), name
	}
	return listing("Aliases", aliases, last, more), nil
}
