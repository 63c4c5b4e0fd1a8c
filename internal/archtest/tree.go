package archtest

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// readTree returns the module path at root, the directories that hold Go files
// and every import. Files are read whatever their build tags say: a law that
// Windows may break is no law. Nested modules obey their own.
func readTree(root string) (module string, dirs []string, imports []imported, err error) {
	goMod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return "", nil, nil, fmt.Errorf("find the module: %w", err)
	}
	for text := range strings.Lines(string(goMod)) {
		if rest, ok := strings.CutPrefix(text, "module "); ok {
			module = strings.TrimSpace(rest)
		}
	}
	if module == "" {
		return "", nil, nil, fmt.Errorf("%s/go.mod has no module line", root)
	}

	tree := os.DirFS(root)
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if name != "." && ignored(tree, name) {
				return fs.SkipDir
			}
		case strings.HasSuffix(name, ".go"):
			found, err := importsOf(tree, name)
			if err != nil {
				return err
			}
			dirs = append(dirs, path.Dir(name))
			imports = append(imports, found...)
		}
		return nil
	})
	slices.Sort(dirs)
	return module, slices.Compact(dirs), imports, err
}

// ignored goes by what the go command leaves out of ./... .
func ignored(tree fs.FS, dir string) bool {
	base := path.Base(dir)
	if base == "testdata" || base == "node_modules" || base[0] == '.' || base[0] == '_' {
		return true
	}
	_, err := fs.Stat(tree, path.Join(dir, "go.mod"))
	return err == nil
}

func importsOf(tree fs.FS, name string) ([]imported, error) {
	text, err := fs.ReadFile(tree, name)
	if err != nil {
		return nil, err
	}
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, name, text, parser.ImportsOnly)
	if err != nil {
		return nil, fmt.Errorf("read the imports: %w", err)
	}
	var found []imported
	for _, spec := range parsed.Imports {
		importPath, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: import %s: %w", name, spec.Path.Value, err)
		}
		at := files.Position(spec.Pos())
		found = append(found, imported{
			dir:  path.Dir(name),
			file: fmt.Sprintf("%s:%d", name, at.Line),
			path: importPath,
			test: strings.HasSuffix(name, "_test.go"),
		})
	}
	return found, nil
}
