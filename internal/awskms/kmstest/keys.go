package kmstest

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Key is a key to put into the server by [Server.Import]. Empty members take
// the value that CreateKey would give them.
type Key struct {
	// Material is an *rsa.PrivateKey, an ed25519.PrivateKey, a []byte (HMAC)
	// or nil for a key that is only described.
	Material any
	// Spec and Usage follow from the material if empty.
	Spec, Usage string
	// State is Enabled if empty, Origin AWS_KMS, Manager CUSTOMER.
	State, Origin, Manager string
	Description            string
	// Aliases are names with the prefix alias/.
	Aliases []string
	Tags    map[string]string
	// Created is the server's time if zero.
	Created time.Time
	// Replicas are the Regions of replicas; with any, the key is a
	// multi-Region primary key.
	Replicas []string
}

type storedKey struct {
	Key
	id, arn string
}

// Key states as AWS names them.
const (
	Enabled         = "Enabled"
	Disabled        = "Disabled"
	PendingDeletion = "PendingDeletion"
)

// specs are the key specs that CreateKey makes here, with their usage.
var specs = map[string]string{
	"RSA_2048":              "SIGN_VERIFY",
	"RSA_3072":              "SIGN_VERIFY",
	"RSA_4096":              "SIGN_VERIFY",
	"ECC_NIST_EDWARDS25519": "SIGN_VERIFY",
	"HMAC_256":              "GENERATE_VERIFY_MAC",
	"SYMMETRIC_DEFAULT":     "ENCRYPT_DECRYPT",
}

// awsSpecs are all values of KeySpec; deprecatedSpecs those of the deprecated
// CustomerMasterKeySpec, which lacks the newer ones.
var (
	deprecatedSpecs = []string{
		"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521",
		"ECC_SECG_P256K1", "SYMMETRIC_DEFAULT", "HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512", "SM2",
	}
	awsSpecs = append(slices.Clone(deprecatedSpecs), "ML_DSA_44", "ML_DSA_65", "ML_DSA_87",
		"ECC_NIST_EDWARDS25519", "ML_KEM_512", "ML_KEM_768", "ML_KEM_1024")
	usages = []string{"SIGN_VERIFY", "ENCRYPT_DECRYPT", "GENERATE_VERIFY_MAC", "KEY_AGREEMENT", "ENCAPSULATE_DECAPSULATE"}
)

// Import stores a key and returns its ARN.
func (s *Server) Import(k Key) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k.Spec == "" {
		k.Spec = specOf(k.Material)
	}
	if k.Usage == "" {
		k.Usage = specs[k.Spec]
	}
	stored := s.store(k)
	for _, name := range k.Aliases {
		s.aliases[name] = alias{stored.id, s.options.Now()}
	}
	return stored.arn
}

// SetState puts a key into a state, such as PendingDeletion, that no operation
// of this server leads to.
func (s *Server) SetState(keyARN, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, id, _ := strings.Cut(keyARN, ":key/")
	s.keys[id].State = state
}

// State is the state that a key is in.
func (s *Server) State(keyARN string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, id, _ := strings.Cut(keyARN, ":key/")
	return s.keys[id].State
}

// Keys returns the ARNs of all keys, sorted.
func (s *Server) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var arns []string
	for _, k := range s.keys {
		arns = append(arns, k.arn)
	}
	slices.Sort(arns)
	return arns
}

// Aliases returns the alias names, each with its key's ARN.
func (s *Server) Aliases() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := map[string]string{}
	for name, a := range s.aliases {
		names[name] = s.keys[a.target].arn
	}
	return names
}

func (s *Server) store(k Key) *storedKey {
	if k.State == "" {
		k.State = Enabled
	}
	if k.Origin == "" {
		k.Origin = "AWS_KMS"
	}
	if k.Manager == "" {
		k.Manager = "CUSTOMER"
	}
	if k.Created.IsZero() {
		k.Created = s.options.Now()
	}
	k.Tags = maps.Clone(k.Tags)
	if k.Tags == nil {
		k.Tags = map[string]string{}
	}
	id := uuid()
	if len(k.Replicas) > 0 {
		id = "mrk-" + strings.ReplaceAll(id, "-", "")
	}
	stored := &storedKey{Key: k, id: id, arn: s.arn("key/" + id)}
	s.keys[id] = stored
	return stored
}

// Generate makes key material for a key spec, as CreateKey does; none for a
// symmetric encryption key.
func Generate(spec string) (any, error) {
	switch spec {
	case "RSA_2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "RSA_3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "RSA_4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	case "ECC_NIST_EDWARDS25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "HMAC_256":
		secret := make([]byte, 32)
		rand.Read(secret)
		return secret, nil
	}
	return nil, nil
}

func specOf(material any) string {
	switch m := material.(type) {
	case *rsa.PrivateKey:
		return fmt.Sprintf("RSA_%d", m.N.BitLen())
	case ed25519.PrivateKey:
		return "ECC_NIST_EDWARDS25519"
	case []byte:
		return "HMAC_256"
	}
	return "SYMMETRIC_DEFAULT"
}

type tag struct{ TagKey, TagValue *string }

func createKey(c *call) (any, error) {
	var in struct {
		BypassPolicyLockoutSafetyCheck                                        *bool
		CustomerMasterKeySpec, KeySpec, KeyUsage, Description, Origin, Policy *string
		CustomKeyStoreId, XksKeyId                                            *string
		MultiRegion                                                           *bool
		Tags                                                                  []tag
	}
	if err := c.decode(&in); err != nil {
		return nil, err
	}
	spec, err := specIn(in.KeySpec, in.CustomerMasterKeySpec)
	if err != nil {
		return nil, err
	}
	usage, err := usageIn(spec, in.KeyUsage)
	if err != nil {
		return nil, err
	}
	switch {
	case in.Origin != nil && *in.Origin != "AWS_KMS", in.CustomKeyStoreId != nil, in.XksKeyId != nil, in.MultiRegion != nil && *in.MultiRegion:
		return nil, fail("UnsupportedOperationException", "kmstest makes only single-Region keys of origin AWS_KMS")
	case in.Policy != nil:
		return nil, fail("UnsupportedOperationException", "kmstest has no key policies")
	case in.Description != nil && len(*in.Description) > 8192:
		return nil, invalid("Value at 'description' failed to satisfy constraint: Member must have length less than or equal to 8192")
	case specs[spec] == "":
		return nil, fail("UnsupportedOperationException", "kmstest makes no %s keys", spec)
	}
	k := Key{Spec: spec, Usage: usage, Tags: map[string]string{}}
	if in.Description != nil {
		k.Description = *in.Description
	}
	if err := putTags(k.Tags, in.Tags); err != nil {
		return nil, err
	}
	if k.Material, err = c.server.options.Material(spec); err != nil {
		return nil, fail("KMSInternalException", "%v", err)
	}
	c.key = c.server.store(k)
	return map[string]any{"KeyMetadata": c.server.metadata(c.key)}, nil
}

// specIn reads the key spec from the member of that name or its deprecated
// twin. With neither, AWS makes a symmetric encryption key.
func specIn(spec, deprecated *string) (string, error) {
	switch {
	case spec != nil && deprecated != nil:
		return "", fail("ValidationException", "You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	case spec != nil:
		return *spec, oneOf("keySpec", *spec, awsSpecs)
	case deprecated != nil:
		return *deprecated, oneOf("customerMasterKeySpec", *deprecated, deprecatedSpecs)
	}
	return "SYMMETRIC_DEFAULT", nil
}

func usageIn(spec string, usage *string) (string, error) {
	if usage == nil {
		if spec != "SYMMETRIC_DEFAULT" {
			return "", fail("ValidationException", "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
		}
		return "ENCRYPT_DECRYPT", nil
	}
	if err := oneOf("keyUsage", *usage, usages); err != nil {
		return "", err
	}
	fits := *usage == specs[spec] || strings.HasPrefix(spec, "RSA_") && *usage == "ENCRYPT_DECRYPT"
	if specs[spec] != "" && !fits {
		return "", fail("ValidationException", "The operation failed because the KeyUsage value of the KMS key is %s, which is not compatible with key spec %s.", *usage, spec)
	}
	return *usage, nil
}

// putTags checks tags and sets them.
func putTags(tags map[string]string, add []tag) error {
	seen := map[string]bool{}
	for _, t := range add {
		if t.TagKey == nil || t.TagValue == nil {
			return invalid("Value null at 'tags' failed to satisfy constraint: TagKey and TagValue must not be null")
		}
		if err := text("tags.tagKey", *t.TagKey, 128); err != nil {
			return err
		}
		if len(*t.TagValue) > 256 {
			return invalid("Value at 'tags.tagValue' failed to satisfy constraint: Member must have length less than or equal to 256")
		}
		if strings.HasPrefix(*t.TagKey, "aws:") {
			return fail("TagException", "Tags beginning with aws: are reserved")
		}
		if seen[*t.TagKey] {
			return fail("TagException", "Duplicate tag keys")
		}
		seen[*t.TagKey] = true
	}
	for _, t := range add {
		tags[*t.TagKey] = *t.TagValue
	}
	if len(tags) > 50 {
		return fail("TagException", "Too many tags")
	}
	return nil
}
