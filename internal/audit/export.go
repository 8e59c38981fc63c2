package audit

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/agent-manager/audit-signer-rotation/internal/chain"
	"github.com/agent-manager/audit-signer-rotation/internal/gha"
)

// ExportFile is one file of an export. Open gives its lines, decompressed.
type ExportFile struct {
	Name string
	Size int64 // as stored
	Open func() (io.ReadCloser, error)
}

// find makes a source of what stands at a path: a file, or a folder of files.
func (s *Source) find(r *gha.Run, at string) error {
	if names, err := r.ReadDir("events-path", at); err == nil {
		for _, name := range names {
			f, err := exportFile(r, path.Join(at, name))
			if err != nil {
				return err
			}
			s.Files = append(s.Files, f)
		}
		if s.Files == nil {
			return gha.Misuse("events-path %q: the folder is empty: name the folder that holds the files of the export", at)
		}
		return nil
	}
	f, err := exportFile(r, at)
	s.Open = f.Open
	return err
}

func exportFile(r *gha.Run, at string) (ExportFile, error) {
	open := func() (*os.File, error) { return r.Open("events-path", at) }
	f, err := open()
	if err != nil {
		return ExportFile{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return ExportFile{}, err
	}
	return ExportFile{Name: at, Size: info.Size(), Open: func() (io.ReadCloser, error) {
		f, err := open()
		if err != nil {
			return nil, err
		}
		return decompress(at, f)
	}}, nil
}

// window bounds what a compressed file may make us keep: the 8 MiB that RFC
// 8878 section 3.1.1.1.2 recommends every decoder to have.
const window = 8 << 20

// decompress gives the text of a file, which its first bytes tell to be plain,
// gzip or zstd. A plain one is given as it is.
func decompress(name string, f *os.File) (io.ReadCloser, error) {
	var magic [4]byte
	n, err := io.ReadFull(f, magic[:])
	if err != nil && err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	bad := func(err error) error {
		return &chain.SourceError{Message: fmt.Sprintf("%s: the compressed file cannot be read: %v", name, err)}
	}
	switch {
	case bytes.HasPrefix(magic[:n], []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bufio.NewReaderSize(f, 1<<16))
		if err != nil {
			f.Close()
			return nil, bad(err)
		}
		return &unpacked{z, f, func() { z.Close() }, bad}, nil
	case bytes.HasPrefix(magic[:n], []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(window))
		if err != nil {
			f.Close()
			return nil, bad(err)
		}
		return &unpacked{z, f, z.Close, bad}, nil
	}
	if ext := strings.ToLower(path.Ext(name)); ext == ".gz" || ext == ".zst" { // an upload that broke off, say
		f.Close()
		return nil, &chain.SourceError{Message: fmt.Sprintf("%s: the file has a compressed file's name and is none; export it again, or name it as what it is", name)}
	}
	return f, nil
}

// unpacked is a file behind its decompressor.
type unpacked struct {
	from  io.Reader
	file  *os.File
	close func()
	bad   func(error) error
}

func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.from.Read(p)
	if err != nil && err != io.EOF {
		err = u.bad(err)
	}
	return n, err
}

func (u *unpacked) Close() error {
	u.close()
	return u.file.Close()
}

// eventsOf gives the events of several files, one after the other.
func eventsOf(files []ExportFile) iter.Seq2[chain.Event, error] {
	return func(yield func(chain.Event, error) bool) {
		rows := int64(0)
		for _, f := range files {
			before := rows
			for e, err := range chain.NDJSON(f.Name, f.Open) {
				if err != nil {
					yield(e, err)
					return
				}
				rows = before + e.Row
				e.Row = rows
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}
