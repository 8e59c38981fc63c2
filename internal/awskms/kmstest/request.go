package kmstest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// call is one request while it is carried out.
type call struct {
	server    *Server
	service   string
	operation string
	body      []byte
	principal string // ARN of the caller
	accessKey string
	key       *storedKey
	anonymous bool // access was denied: the trail names no key
}

var operations = map[string]func(*call) (any, error){
	"CreateAlias":      createAlias,
	"CreateKey":        createKey,
	"DescribeKey":      describeKey,
	"DisableKey":       disableKey,
	"EnableKey":        enableKey,
	"GenerateMac":      generateMac,
	"GetPublicKey":     getPublicKey,
	"ListAliases":      listAliases,
	"ListKeys":         listKeys,
	"ListResourceTags": listResourceTags,
	"LookupEvents":     lookupEvents,
	"Sign":             sign,
	"TagResource":      tagResource,
	"Verify":           verify,
	"VerifyMac":        verifyMac,
}

// target splits the X-Amz-Target header into service and operation.
func target(r *http.Request) (service, operation string, err error) {
	t := r.Header.Get("X-Amz-Target")
	i := strings.LastIndexByte(t, '.')
	if i < 0 {
		return "", "", fail("UnknownOperationException", "%q names no operation", t)
	}
	switch t[:i] {
	case "TrentService":
		service = "kms"
	// The SDK for Go sends the short form; the API Reference the long one.
	case "CloudTrail_20131101", "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101":
		service = "cloudtrail"
	default:
		return "", "", fail("UnknownOperationException", "%q names no service that kmstest plays", t)
	}
	operation = t[i+1:]
	if (operation == "LookupEvents") != (service == "cloudtrail") {
		return service, operation, fail("UnknownOperationException", "kmstest has no %s operation %s", service, operation)
	}
	if r.Method != http.MethodPost || r.URL.Path != "/" {
		return service, operation, fail("UnknownOperationException", "%s is called by POST on /", operation)
	}
	if ct := r.Header.Get("Content-Type"); ct != "application/x-amz-json-1.1" {
		return service, operation, fail("UnknownOperationException", "content type is %q, want application/x-amz-json-1.1", ct)
	}
	return service, operation, nil
}

// authenticate reads who signed the request, and checks the signature's shape
// and scope (Signature Version 4).
func (c *call) authenticate(r *http.Request) error {
	h, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok || r.Header.Get("X-Amz-Date") == "" {
		return fail("MissingAuthenticationTokenException", "Request is missing Authentication Token")
	}
	fields := map[string]string{}
	for f := range strings.SplitSeq(h, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(f), "=")
		fields[k] = v
	}
	scope := strings.Split(fields["Credential"], "/")
	sig, err := hex.DecodeString(fields["Signature"])
	if len(scope) != 5 || fields["SignedHeaders"] == "" || err != nil || len(sig) != 32 {
		return fail("IncompleteSignatureException", "Authorization header is not a complete Signature Version 4")
	}
	if scope[3] != c.service || scope[4] != "aws4_request" || scope[2] != c.server.options.Region {
		return fail("InvalidSignatureException", "Credential should be scoped to service %s in a valid region, not to %s", c.service, strings.Join(scope[1:], "/"))
	}
	c.accessKey = scope[0]
	c.principal = "arn:aws:iam::" + c.server.options.Account + ":user/" + c.accessKey
	if arn, ok := c.server.roles[c.accessKey]; ok {
		if r.Header.Get("X-Amz-Security-Token") != "session-"+c.accessKey {
			return fail("UnrecognizedClientException", "The security token included in the request is invalid.")
		}
		c.principal = arn
	}
	return nil
}

// keyID is the key as the request names it, also in requests that fail.
func (c *call) keyID() string {
	var named struct{ KeyId, TargetKeyId string }
	json.Unmarshal(c.body, &named)
	return named.KeyId + named.TargetKeyId
}

// decode reads the request into the struct that in points to. Member names
// are matched exactly and unknown ones refused, where AWS would ignore them.
func (c *call) decode(in any) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(c.body, &members); err != nil {
		return fail("SerializationException", "%v", err)
	}
	t := reflect.TypeOf(in).Elem()
	for name := range members {
		if _, ok := t.FieldByName(name); !ok {
			return fail("SerializationException", "%s has no member %q", c.operation, name)
		}
	}
	d := json.NewDecoder(bytes.NewReader(c.body))
	d.DisallowUnknownFields()
	if err := d.Decode(in); err != nil {
		return fail("SerializationException", "%v", err)
	}
	return nil
}

// text checks the length of a required member.
func text(name, value string, most int) error {
	if len(value) < 1 || len(value) > most {
		return invalid("Value at '%s' failed to satisfy constraint: Member must have length between 1 and %d, inclusive", name, most)
	}
	return nil
}

// oneOf checks a required enumerated member.
func oneOf(name, value string, among []string) error {
	if !slices.Contains(among, value) {
		return invalid("Value '%s' at '%s' failed to satisfy constraint: Member must satisfy enum value set: [%s]", value, name, strings.Join(among, ", "))
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fail("ValidationException", "1 validation error detected: "+format, args...)
}

var (
	keyIDForm = regexp.MustCompile(`^(mrk-[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$`)
	arnForm   = regexp.MustCompile(`^arn:aws:kms:([a-z0-9-]+):([0-9]{12}):(key/|alias/)(.+)$`)
)

// find resolves a key id, key ARN and, where the operation takes them, an
// alias name or alias ARN, and makes sure that the caller may use the key.
func (c *call) find(id string, aliases bool) (*storedKey, error) {
	if err := text("keyId", id, 2048); err != nil {
		return nil, err
	}
	s := c.server
	resource := id
	if strings.HasPrefix(id, "arn:") {
		m := arnForm.FindStringSubmatch(id)
		switch {
		case m == nil:
			return nil, fail("InvalidArnException", "%s is not a valid ARN", id)
		case m[1] != s.options.Region:
			return nil, fail("NotFoundException", "Invalid arn %s", m[1])
		case m[2] != s.options.Account:
			return nil, c.deny(id)
		case m[3] == "key/":
			resource = m[4]
		default:
			resource = m[3] + m[4]
		}
	}
	var k *storedKey
	switch {
	case strings.HasPrefix(resource, "alias/") && aliases:
		a, ok := s.aliases[resource]
		if !ok {
			return nil, fail("NotFoundException", "Alias %s is not found.", s.arn(resource))
		}
		k = s.keys[a.target]
	case !keyIDForm.MatchString(resource):
		return nil, fail("NotFoundException", "Invalid keyId '%s'", id)
	default:
		k = s.keys[resource]
	}
	if k == nil {
		return nil, fail("NotFoundException", "Key '%s' does not exist", s.arn("key/"+resource))
	}
	c.key = k
	if slices.Contains(s.denied[c.operation], k.arn) {
		return nil, c.deny(k.arn)
	}
	return k, nil
}

// deny is the answer to a caller without permission.
func (c *call) deny(resource string) error {
	c.anonymous = true
	return fail("AccessDeniedException", "User: %s is not authorized to perform: %s:%s on resource: %s because no identity-based policy allows the %s:%s action",
		c.principal, c.service, c.operation, resource, c.service, c.operation)
}

// page cuts one page from a sorted list of names: those after the marker, at
// most limit of them. more says that there are others behind.
func page(names []string, marker *string, limit *int, standard, most int) (cut []string, more bool, err error) {
	n := standard
	if limit != nil {
		n = *limit
	}
	if n < 1 || n > most {
		return nil, false, invalid("Value '%d' at 'limit' failed to satisfy constraint: Member must have value between 1 and %d, inclusive", n, most)
	}
	slices.Sort(names)
	if marker != nil {
		at, ok := slices.BinarySearch(names, *marker)
		if !ok {
			return nil, false, fail("InvalidMarkerException", "Could not deserialize marker '%s'", *marker)
		}
		names = names[at+1:]
	}
	if len(names) > n {
		return names[:n], true, nil
	}
	return names, false, nil
}

// listing is a page of a list in KMS's form.
func listing(member string, items any, last string, more bool) map[string]any {
	answer := map[string]any{member: items, "Truncated": more}
	if more {
		answer["NextMarker"] = last
	}
	return answer
}
