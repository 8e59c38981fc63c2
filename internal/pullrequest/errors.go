package pullrequest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/go-github/v60/github"
)

// Error is a refusal or a failure, in one line that says what to do next.
type Error struct {
	text  string
	code  int
	cause error
}

func (e *Error) Error() string { return e.text }

// ExitCode is 2 for wrong input and 3 where GitHub could not tell or do.
func (e *Error) ExitCode() int { return e.code }

// Unwrap gives the cause, so that a cancelled context can be recognised.
func (e *Error) Unwrap() error { return e.cause }

func usage(format string, args ...any) *Error {
	return &Error{text: fmt.Sprintf(format, args...), code: 2}
}

func remote(format string, args ...any) *Error {
	return &Error{text: fmt.Sprintf(format, args...), code: 3}
}

// Conflict says that a branch is not where it was read: another run, or a
// person, was faster. Nothing was overwritten.
type Conflict struct {
	Branch     string
	Want, Have string // commits; "" stands for a branch that does not exist
}

func (c *Conflict) Error() string {
	name := func(commit string) string {
		if commit == "" {
			return "missing"
		}
		return "at " + short(commit)
	}
	return fmt.Sprintf("branch %s was %s when it was read and is now %s: someone else was faster and nothing was overwritten; run again, so that the step is decided on what is there now",
		c.Branch, name(c.Want), name(c.Have))
}

// ExitCode is 3: the step was not done, and running again decides it.
func (c *Conflict) ExitCode() int { return 3 }

// Blocked says that a branch cannot be used for a change, and what is in the way.
type Blocked struct {
	Branch, By string
	use        string // the branch that has the change, "" if none has
}

func (b *Blocked) Error() string {
	return fmt.Sprintf("branch %s cannot be used: %s", b.Branch, b.By)
}

// ExitCode is 3: the step was not done.
func (b *Blocked) ExitCode() int { return 3 }

// explain turns what went wrong into a sentence. what says what was tried.
func (r *Repo) explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Conflict](err); ok {
		return err
	}
	if own, ok := errors.AsType[*Error](err); ok {
		if strings.HasPrefix(own.text, "cannot ") {
			return own
		}
		return &Error{text: what + ": " + own.text, code: own.code, cause: own.cause}
	}
	out := remote("%s: ", what)
	out.cause = err
	switch refusal, isRefusal := errors.AsType[*github.ErrorResponse](err); {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		out.text += "the run was stopped; run again, it goes on from what is there"
	case isRefusal:
		out.text += r.refusal(refusal)
	default:
		out.text += "GitHub could not be reached or gave half an answer (" + r.clean(err.Error()) + "); run again later"
	}
	return out
}

// refusal explains an answer of GitHub that is not a success.
func (r *Repo) refusal(e *github.ErrorResponse) string {
	said := e.Message
	for _, detail := range e.Errors {
		if detail.Message != "" {
			said += "; " + detail.Message
		} else if detail.Field != "" {
			said += "; " + detail.Field + " is " + detail.Code
		}
	}
	said = r.clean(said)
	code := e.Response.StatusCode
	needs := r.clean(e.Response.Header.Get("X-Accepted-GitHub-Permissions"))
	switch {
	case code == http.StatusUnauthorized:
		return fmt.Sprintf("GitHub refuses the token (401 %s): it is wrong, expired or revoked; give the token input a valid one", said)
	case code == http.StatusForbidden && strings.Contains(said, "not permitted to create or approve pull requests"):
		return `GitHub Actions may not open pull requests here (403); turn on "Allow GitHub Actions to create and approve pull requests" under Settings, Actions, General of the repository or its organization, or give the token input a GitHub App token, which does not need it`
	case code == http.StatusForbidden && needs != "":
		return fmt.Sprintf("the token lacks a permission (403 %s): GitHub asks for %s; grant it in the job's permissions block or in the GitHub App", said, needs)
	case code == http.StatusForbidden:
		return fmt.Sprintf("GitHub forbids it (403 %s); check the token's permissions and the repository's rules", said)
	case code == http.StatusNotFound:
		return fmt.Sprintf("GitHub answers 404: %s/%s or the thing asked for does not exist, or the token cannot see it; check the repository's name and that the token covers it", r.owner, r.name)
	case code >= 300 && code < 400:
		return fmt.Sprintf("GitHub redirects (%d): %s/%s was renamed or moved; use its present name", code, r.owner, r.name)
	}
	return fmt.Sprintf("GitHub refuses (%d %s); correct what it names and run again", code, said)
}

// clean makes one short line of a foreign text and masks the token in it.
func (r *Repo) clean(text string) string {
	if token := r.http.token; token != "" {
		text = strings.ReplaceAll(text, token, "***")
	}
	return clip(text)
}

// clip makes one short printable line.
func clip(text string) string {
	line := []rune(strings.Join(strings.FieldsFunc(text, func(c rune) bool {
		return c < ' ' || c >= 0x7f && c < 0xa0 || c == '\u2028' || c == '\u2029' || c >= '\u202a' && c <= '\u202e' || c >= '\u2066' && c <= '\u2069'
	}), " "))
	if len(line) > 300 {
		line = append(line[:300], '…')
	}
	return string(line)
}

// short is a commit's first digits, for people.
func short(commit string) string {
	return commit[:min(len(commit), 12)]
}
