package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"strings"

	"github.com/agent-manager/audit-signer-rotation/docs"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
)

// SARIFLog is a log file of SARIF 2.1.0 (OASIS Standard, docs.oasis-open.org/
// sarif/sarif/v2.1.0), with the parts that GitHub code scanning reads
// (docs.github.com/en/code-security/reference/code-scanning/sarif-files/sarif-support).
type SARIFLog struct {
	Schema  string     `json:"$schema"`
	Version string     `json:"version"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool       sarifTool     `json:"tool"`
	ColumnKind string        `json:"columnKind"`
	Results    []sarifResult `json:"results"`
}

type sarifTool struct {
	Driver sarifDriver `json:"driver"`
}

type sarifDriver struct {
	Name           string      `json:"name"`
	InformationURI string      `json:"informationUri"`
	Rules          []sarifRule `json:"rules"`
}

type sarifRule struct {
	ID               string        `json:"id"`
	ShortDescription sarifText     `json:"shortDescription"`
	FullDescription  sarifText     `json:"fullDescription"`
	Help             sarifText     `json:"help"`
	HelpURI          string        `json:"helpUri"`
	Default          sarifLevel    `json:"defaultConfiguration"`
	Properties       sarifProperty `json:"properties"`
}

type sarifText struct {
	Text     string `json:"text"`
	Markdown string `json:"markdown,omitempty"`
}

type sarifLevel struct {
	Level finding.Severity `json:"level"` // SARIF has the same three names
}

type sarifProperty struct {
	Tags      []string `json:"tags"`
	Precision string   `json:"precision"`
	// Severity orders security alerts, from 0 to 10.
	Severity string `json:"security-severity"`
}

type sarifResult struct {
	RuleID       string            `json:"ruleId"`
	RuleIndex    int               `json:"ruleIndex"`
	Level        finding.Severity  `json:"level"`
	Message      sarifText         `json:"message"`
	Locations    []sarifLocation   `json:"locations"`
	Fingerprints map[string]string `json:"partialFingerprints"`
}

type sarifLocation struct {
	Physical sarifPlace `json:"physicalLocation"`
}

type sarifPlace struct {
	Artifact sarifArtifact `json:"artifactLocation"`
	Region   sarifRegion   `json:"region"`
}

type sarifArtifact struct {
	URI string `json:"uri"`
}

type sarifRegion struct {
	StartLine   int `json:"startLine"`
	StartColumn int `json:"startColumn,omitempty"`
}

const projectURL = "https://github.com/agent-manager/audit-signer-rotation"

var securitySeverity = map[finding.Severity]string{finding.Note: "1.0", finding.Warning: "5.0", finding.Error: "8.0"}

// SARIF renders findings. One that names no file is shown in file.
func SARIF(fs []finding.Finding, file string) SARIFLog {
	run := sarifRun{
		Tool:       sarifTool{sarifDriver{Name: "audit-signer-rotation", InformationURI: projectURL, Rules: []sarifRule{}}},
		ColumnKind: "unicodeCodePoints", Results: []sarifResult{},
	}
	rules, seen := map[string]int{}, map[string]int{}
	for _, f := range fs {
		index, known := rules[f.Rule]
		if !known {
			index = len(run.Tool.Driver.Rules)
			rules[f.Rule] = index
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, ruleOf(f))
		}
		rule := &run.Tool.Driver.Rules[index]
		if f.Severity > rule.Default.Level {
			rule.Default.Level, rule.Properties.Severity = f.Severity, securitySeverity[f.Severity]
		}
		name := cmp.Or(f.File, file)
		sum := sha256.Sum256([]byte(f.Rule + "\x00" + name + "\x00" + f.Message))
		print := hex.EncodeToString(sum[:8])
		seen[print]++
		run.Results = append(run.Results, sarifResult{
			RuleID: f.Rule, RuleIndex: index, Level: f.Severity, Message: sarifText{Text: plain(f.Message)},
			Locations:    []sarifLocation{{sarifPlace{sarifArtifact{uriOf(name)}, sarifRegion{max(f.Line, 1), f.Col}}}},
			Fingerprints: map[string]string{"primaryLocationLineHash": fmt.Sprintf("%s:%d", print, seen[print])},
		})
	}
	return SARIFLog{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []sarifRun{run}}
}

// plain is a message in which nothing is a link (SARIF 3.11.6).
func plain(s string) string {
	return strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`).Replace(visible(s))
}

// uriOf is a path as a URI: relative to the repository, or of a file elsewhere.
func uriOf(name string) string {
	if path.IsAbs(name) {
		return (&url.URL{Scheme: "file", Path: name}).String()
	}
	return (&url.URL{Path: path.Clean(name)}).String()
}

// ruleOf takes a rule's help from docs/rules.md.
func ruleOf(f finding.Finding) sarifRule {
	advice, _ := docs.Rule(f.Rule)
	help := fmt.Sprintf("%s\n\n**Why it matters.** %s\n\n**What to do.** %s", cmp.Or(advice.What, f.Rule), advice.Means, advice.Do)
	bare := strings.NewReplacer("**", "", "`", "", "*", "").Replace
	what := sarifText{Text: cmp.Or(bare(advice.What), f.Rule)}
	return sarifRule{
		ID: f.Rule, ShortDescription: what, FullDescription: what, Help: sarifText{Text: bare(help), Markdown: help}, HelpURI: projectURL + "/blob/main/docs/rules.md#" + f.Rule,
		Default:    sarifLevel{f.Severity},
		Properties: sarifProperty{[]string{"security", "audit-log"}, "very-high", securitySeverity[f.Severity]},
	}
}
