package kmstest

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// serveSTS answers GetCallerIdentity and AssumeRoleWithWebIdentity in STS's
// query protocol.
func (s *Server) serveSTS(w http.ResponseWriter, r *http.Request, body []byte) {
	form, err := url.ParseQuery(string(body))
	if err != nil || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || form.Get("Version") != "2011-06-15" {
		writeXMLError(w, fail("MissingAction", "neither X-Amz-Target nor a form of STS"))
		return
	}
	c := &call{server: s, service: "sts", operation: form.Get("Action")}
	fault := s.fault(c.operation, r)
	done := s.log(c)
	if fault.strikesBefore(w, r) {
		return
	}
	var answer any
	s.mu.Lock()
	switch c.operation {
	case "GetCallerIdentity":
		answer, err = c.callerIdentity(r)
	case "AssumeRoleWithWebIdentity":
		answer, err = s.assumeRole(form)
	default:
		err = fail("InvalidAction", "kmstest has no STS operation %s", c.operation)
	}
	s.mu.Unlock()
	done(err)
	if err != nil {
		writeXMLError(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	xml.NewEncoder(w).Encode(answer)
}

type callerIdentity struct {
	XMLName xml.Name `xml:"GetCallerIdentityResponse"`
	Account string   `xml:"GetCallerIdentityResult>Account"`
	ARN     string   `xml:"GetCallerIdentityResult>Arn"`
	UserID  string   `xml:"GetCallerIdentityResult>UserId"`
}

func (c *call) callerIdentity(r *http.Request) (any, error) {
	if err := c.authenticate(r); err != nil {
		return nil, err
	}
	return callerIdentity{Account: c.server.options.Account, ARN: c.principal, UserID: "AIDAKMSTEST"}, nil
}

type assumedRole struct {
	XMLName      xml.Name `xml:"AssumeRoleWithWebIdentityResponse"`
	AccessKeyID  string   `xml:"AssumeRoleWithWebIdentityResult>Credentials>AccessKeyId"`
	Secret       string   `xml:"AssumeRoleWithWebIdentityResult>Credentials>SecretAccessKey"`
	SessionToken string   `xml:"AssumeRoleWithWebIdentityResult>Credentials>SessionToken"`
	Expiration   string   `xml:"AssumeRoleWithWebIdentityResult>Credentials>Expiration"`
	ARN          string   `xml:"AssumeRoleWithWebIdentityResult>AssumedRoleUser>Arn"`
	RoleID       string   `xml:"AssumeRoleWithWebIdentityResult>AssumedRoleUser>AssumedRoleId"`
}

// assumeRole exchanges a known token for credentials of the role, which the
// trail then names as the caller.
func (s *Server) assumeRole(form url.Values) (any, error) {
	_, role, ok := strings.Cut(form.Get("RoleArn"), "arn:aws:iam::"+s.options.Account+":role/")
	session := form.Get("RoleSessionName")
	if !ok || len(session) < 2 {
		return nil, fail("ValidationError", "RoleArn names no role of account %s, or RoleSessionName is too short", s.options.Account)
	}
	if !slices.Contains(s.options.WebIdentityTokens, form.Get("WebIdentityToken")) {
		return nil, fail("InvalidIdentityToken", "The ID Token provided is not a valid JWT.")
	}
	id := "ASIAKMSTEST" + strconv.Itoa(len(s.roles))
	arn := "arn:aws:sts::" + s.options.Account + ":assumed-role/" + role + "/" + session
	s.roles[id] = arn
	return assumedRole{
		AccessKeyID: id, Secret: "not-a-secret", SessionToken: "session-" + id,
		Expiration: s.options.Now().UTC().Add(time.Hour).Format(time.RFC3339),
		ARN:        arn, RoleID: "AROAKMSTEST:" + session,
	}, nil
}

func writeXMLError(w http.ResponseWriter, err error) {
	type body struct {
		XMLName xml.Name `xml:"ErrorResponse"`
		Code    string   `xml:"Error>Code"`
		Message string   `xml:"Error>Message"`
	}
	e := asAWS(err)
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(e.status)
	xml.NewEncoder(w).Encode(body{Code: e.code, Message: e.message})
}
