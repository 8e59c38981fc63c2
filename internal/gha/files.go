package gha

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fileError says which input named a file, and why the file cannot be used.
// It unwraps to the cause, so that errors.Is(err, fs.ErrNotExist) tells a
// missing file from an unusable one.
type fileError struct {
	input, path, why string
	cause            error
}

func (e *fileError) Error() string { return fmt.Sprintf("%s %q: %s", e.input, e.path, e.why) }
func (e *fileError) Unwrap() error { return e.cause }
func (*fileError) ExitCode() int   { return exitMisuse }

// ReadFile reads a regular file of at most limit bytes that the input named
// input points to; see Open for the paths it takes. Every error names the
// input, and unreadable input is exit code 2.
func (r *Run) ReadFile(input, path string, limit int64) ([]byte, error) {
	f, err := r.Open(input, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	oversize := &fileError{input, path, fmt.Sprintf("the file is larger than the %d bytes that are read: is it the right one?", limit), nil}
	if info, err := f.Stat(); err == nil && info.Size() > limit {
		return nil, oversize
	}
	content, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, unusable(input, path, err)
	}
	if int64(len(content)) > limit {
		return nil, oversize
	}
	return content, nil
}

// Open opens a regular file for reading, however large.
//
// A path in the working directory, which on a runner holds the files of
// whoever opened the pull request, leads through no symbolic link and not into
// .git or .github. A relative path that leaves the working directory is
// refused on a runner. Other paths are the caller's own.
func (r *Run) Open(input, path string) (*os.File, error) {
	root, name, err := r.locate(input, path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// Look before opening: to open a pipe waits for its other end.
	info, err := root.Stat(name)
	if err != nil {
		return nil, unusable(input, path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, &fileError{input, path, "it is a " + kind(info.Mode()) + ": name a regular file", nil}
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, unusable(input, path, err)
	}
	return f, nil
}

// maxFolder bounds what ReadDir lists.
const maxFolder = 2000

// ReadDir lists the names in a directory, in order. The same paths are taken
// as by Open.
func (r *Run) ReadDir(input, path string) ([]string, error) {
	root, name, err := r.locate(input, path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Stat(name)
	if err == nil && !info.IsDir() {
		return nil, &fileError{input, path, "it is no directory: name the one that holds the files", nil}
	}
	var names []string
	if err == nil {
		var dir *os.File
		if dir, err = root.Open(name); err == nil {
			defer dir.Close()
			names, err = dir.Readdirnames(maxFolder + 1)
		}
	}
	switch {
	case len(names) > maxFolder:
		return nil, &fileError{input, path, fmt.Sprintf("the directory holds more than %d files", maxFolder), nil}
	case err != nil && err != io.EOF:
		return nil, unusable(input, path, err)
	}
	slices.Sort(names)
	return names, nil
}

// MakeFolder makes a folder, and those on the way to it, where there is none.
func (r *Run) MakeFolder(input, path string) error {
	root, name, err := r.locate(input, path)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.MkdirAll(name, 0o755); err != nil {
		return unusable(input, path, err)
	}
	return nil
}

// WriteFile puts content at path, at once or not at all: whoever reads it sees
// the old file or the new one, also after a crash. The directory must exist.
// The same paths are taken as by Open.
func (r *Run) WriteFile(input, path string, content []byte) error {
	root, name, err := r.locate(input, path)
	if err != nil {
		return err
	}
	defer root.Close()
	if info, err := root.Lstat(name); err == nil && !info.Mode().IsRegular() {
		return &fileError{input, path, "it is a " + kind(info.Mode()) + ": name a regular file, or a new one", nil}
	}
	temp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+"."+delimiter())
	if err = write(root, temp, content); err == nil {
		err = root.Rename(temp, name)
	}
	if err == nil {
		return nil
	}
	_ = root.Remove(temp)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &fileError{input, path, "its directory does not exist: create that first", err}
	case errors.Is(err, fs.ErrPermission):
		return unusable(input, path, err)
	}
	return fmt.Errorf("%s %q: the file was not written: %w", input, path, err)
}

func write(root *os.Root, name string, content []byte) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}

// locate checks a path and gives the directory that holds it in, with the
// path from there. The caller closes the directory.
func (r *Run) locate(input, path string) (*os.Root, string, error) {
	refuse := func(why string) (*os.Root, string, error) {
		return nil, "", &fileError{input, path, why, nil}
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, "", unusable(input, path, err)
	}
	local := filepath.Clean(path)
	if filepath.IsAbs(path) {
		if rel, err := filepath.Rel(dir, path); err == nil {
			local = rel
		}
	}
	switch {
	case path == "":
		return refuse("no file is named")
	case strings.ContainsFunc(path, func(c rune) bool { return c < ' ' }):
		return refuse("the path holds a control character")
	case filepath.IsLocal(local):
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil, "", unusable(input, path, err)
		}
		if why := guarded(root, local); why != "" {
			root.Close()
			return refuse(why)
		}
		return root, local, nil
	case r.hosted && !filepath.IsAbs(path):
		return refuse("the path leaves the working directory: give one inside it, or an absolute one")
	}
	// Links outside are the caller's own; follow those of the directory, and
	// of the file if it is there.
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if real, err = filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			real = filepath.Join(real, filepath.Base(path))
		}
	}
	if err != nil {
		return nil, "", unusable(input, path, err)
	}
	root, err := os.OpenRoot(filepath.Dir(real))
	if err != nil {
		return nil, "", unusable(input, path, err)
	}
	return root, filepath.Base(real), nil
}

// guarded says why a path of the working directory must not be used, or "".
func guarded(root *os.Root, path string) string {
	parts := strings.Split(filepath.ToSlash(path), "/")
	for i, part := range parts {
		if strings.EqualFold(part, ".git") || strings.EqualFold(part, ".github") {
			return "files of " + part + " are not for this: name one outside it"
		}
		prefix := filepath.Join(parts[:i+1]...)
		if info, err := root.Lstat(prefix); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return fmt.Sprintf("%q is a symbolic link: name the file itself", prefix)
		}
	}
	return ""
}

func kind(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "pipe"
	}
	return "device or socket"
}

// unusable words an error of the file system for the user.
func unusable(input, path string, err error) error {
	why := err.Error()
	var at *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		why = "there is no such file: check the path and the checkout"
	case errors.Is(err, fs.ErrPermission):
		why = "permission denied: check its mode and owner"
	case errors.As(err, &at):
		why = at.Err.Error()
	}
	return &fileError{input, path, why, err}
}
