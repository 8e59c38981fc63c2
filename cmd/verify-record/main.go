// Command verify-record checks the evidence of rotations offline: it holds their
// records against registry and archive and, where a report of verify-chain is
// given, against the chain. It needs no network, no key and no database.
//
//	verify-record --registry-path=signers.json --report-path=report.json rotations/*.json
//
// It ends with 0 if the records hold, 1 if one does not, 2 if a file cannot be
// read as what it should be.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/finding"
	"github.com/agent-manager/audit-signer-rotation/internal/jsondoc"
	"github.com/agent-manager/audit-signer-rotation/internal/record"
	"github.com/agent-manager/audit-signer-rotation/internal/registry"
	"github.com/agent-manager/audit-signer-rotation/internal/rotation"
	"github.com/agent-manager/audit-signer-rotation/internal/signerfiles"
)

func main() {
	findings, records, err := run(os.Args[1:])
	for _, f := range findings {
		fmt.Printf("%q\n", f.String())
	}
	switch {
	case err != nil:
		fmt.Fprintf(os.Stderr, "verify-record: %q\n", err.Error())
		os.Exit(2)
	case finding.Count(findings, finding.Error) > 0:
		os.Exit(1)
	}
	fmt.Printf("%d record(s) hold\n", records)
}

func run(args []string) ([]finding.Finding, int, error) {
	flags := flag.NewFlagSet("verify-record", flag.ContinueOnError)
	registryPath := flags.String("registry-path", "kernel/tools/signers.json", "the signer registry")
	archivePath := flags.String("archive-path", "", "the archive of retired signers; beside the registry if empty")
	reportPath := flags.String("report-path", "", "a JSON report of verify-chain, made with these two files")
	if err := flags.Parse(args); err != nil {
		return nil, 0, err
	}
	if flags.NArg() == 0 {
		return nil, 0, errors.New("name at least one record, such as kernel/tools/rotations/*.json")
	}
	if *archivePath == "" {
		*archivePath = registry.ArchiveBeside(*registryPath)
	}
	text, err := read(*registryPath)
	if err != nil {
		return nil, 0, err
	}
	archive, err := read(*archivePath)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, err
	}
	files, findings, err := signerfiles.Parse(signerfiles.PathsFor(*registryPath, *archivePath, ""), text, archive, time.Now())
	if err != nil {
		return nil, 0, err
	}
	var report *chain.Report
	if *reportPath != "" {
		if report, err = readReport(*reportPath); err != nil {
			return findings, 0, err
		}
	}
	for _, name := range flags.Args() {
		text, err := read(name)
		if err != nil {
			return findings, 0, err
		}
		rec, err := record.Parse(name, text)
		if err != nil {
			return findings, 0, err
		}
		files.Dir = filepath.ToSlash(filepath.Dir(name))
		findings = append(findings, rotation.Examine(rec, *files, report)...)
	}
	return findings, flags.NArg(), nil
}

// read reads a file of a size that these files can have.
func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, jsondoc.MaxSize+1))
	if err == nil && len(text) > jsondoc.MaxSize {
		err = fmt.Errorf("%s is larger than %d bytes", name, jsondoc.MaxSize)
	}
	return text, err
}

func readReport(name string) (*chain.Report, error) {
	text, err := read(name)
	if err != nil {
		return nil, err
	}
	return rotation.ParseReport(name, text)
}
