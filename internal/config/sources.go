package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// EnvPrefix begins every environment variable of this server.
const EnvPrefix = "AUTHSERVER_"

// Sources are the places settings come from, besides flags.
type Sources struct {
	env    map[string]string // all of the process
	file   map[string]string // by flag name
	path   string            // of the file; empty when there is none
	known  map[string]bool   // flag names of settings
	origin map[string]string // where each setting came from, filled by Resolve
}

// ReadSources reads the YAML file at path, if any, and takes the environment.
// settings are the flag names that exist; a key of the file that is none of
// them is refused.
func ReadSources(path string, environ []string, settings []string) (*Sources, error) {
	s := &Sources{env: map[string]string{}, file: map[string]string{}, path: path, known: map[string]bool{}, origin: map[string]string{}}
	for _, name := range settings {
		s.known[name] = true
	}
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok {
			s.env[name] = value
		}
	}
	if path == "" {
		return s, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("configuration file %s does not exist", path)
		}
		return nil, fmt.Errorf("read configuration file: %w", err)
	}
	var keys, more map[string]any
	file := yaml.NewDecoder(bytes.NewReader(text))
	if err := file.Decode(&keys); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("configuration file %s: %w", path, err)
	}
	if err := file.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("configuration file %s: more than one YAML document; want one", path)
	}
	for key, value := range keys {
		if !s.known[key] {
			return nil, fmt.Errorf("configuration file %s: unknown key %q%s", path, key, s.nearest(key, slices.Collect(maps.Keys(s.known))))
		}
		if s.file[key], err = scalar(value); err != nil {
			return nil, fmt.Errorf("configuration file %s: key %q: %w", path, key, err)
		}
	}
	return s, nil
}

// scalar spells a YAML value the way a flag is spelled: lists with commas.
func scalar(value any) (string, error) {
	switch v := value.(type) {
	case nil:
		return "", nil
	case []any:
		parts := make([]string, len(v))
		for i, element := range v {
			part, err := scalar(element)
			if err != nil {
				return "", err
			}
			parts[i] = part
		}
		return strings.Join(parts, ","), nil
	case map[string]any:
		return "", errors.New("want one value or a list, not a mapping")
	case bool:
		if v {
			return "on", nil
		}
		return "off", nil // YAML reads on and off as booleans
	default:
		return fmt.Sprint(v), nil
	}
}

// EnvName returns the environment variable of a setting.
func EnvName(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// secretFlags can also be read from a file named by the variable with _FILE.
var secretFlags = map[string]bool{"database-url": true, "master-key": true, "master-key-former": true}

// Resolve implements kong's resolver: environment over file.
func (s *Sources) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if !s.known[flag.Name] {
		return nil, nil
	}
	value, origin, err := s.lookUp(flag.Name)
	if err != nil {
		return nil, &SourceError{err}
	}
	if origin == "" {
		return nil, nil
	}
	if flag.IsSlice() {
		parts := strings.Split(value, ",")
		for i := range parts {
			parts[i] = strings.TrimSpace(parts[i])
		}
		value = strings.Join(parts, ",")
	}
	s.origin[flag.Name] = origin
	return value, nil
}

// SourceError says that a setting could not be read where it should be.
type SourceError struct{ err error }

// Error implements error.
func (e *SourceError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *SourceError) Unwrap() error { return e.err }

// Validate implements kong's resolver.
func (s *Sources) Validate(*kong.Application) error { return nil }

func (s *Sources) lookUp(flag string) (value, origin string, err error) {
	name := EnvName(flag)
	value, set := s.env[name]
	if secretFlags[flag] {
		if path, inFile := s.env[name+"_FILE"]; inFile && path != "" {
			if set && value != "" {
				return "", "", fmt.Errorf("both %s and %s_FILE are set; want one", name, name)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return "", "", fmt.Errorf("%s_FILE: %w", name, err)
			}
			value := strings.TrimRight(string(text), "\r\n")
			if strings.TrimSpace(value) == "" && flag != "master-key-former" { // of which there may be none
				// An empty mount must not make a second installation beside the real one.
				return "", "", fmt.Errorf("%s_FILE: %s is empty; want the secret in it", name, path)
			}
			if flag == "master-key-former" { // several: with commas, or one on each line
				value = strings.Join(strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' }), ",")
			}
			return value, name + "_FILE", nil
		}
	}
	switch {
	case set && value != "":
		return value, name, nil
	case flag == "database-url" && s.env["DATABASE_URL"] != "" && s.file[flag] == "":
		return s.env["DATABASE_URL"], "DATABASE_URL", nil
	case flag == "addr" && s.env["PORT"] != "" && s.file[flag] == "":
		return ":" + s.env["PORT"], "PORT", nil
	}
	if value, ok := s.file[flag]; ok {
		return value, s.path, nil
	}
	return "", "", nil
}

// Origin says where a setting came from; "default" when nobody set it. Flags
// are the caller's to know.
func (s *Sources) Origin(flag string) string {
	if o := s.origin[flag]; o != "" {
		return o
	}
	return "default"
}

// Warnings names the environment variables with our prefix that are no
// setting. They are not refused: Kubernetes injects AUTHSERVER_PORT, a URL, and
// AUTHSERVER_SERVICE_HOST beside a Service of that name.
func (s *Sources) Warnings() []string {
	names := []string{EnvPrefix + "CONFIG"}
	for flag := range s.known {
		names = append(names, EnvName(flag))
		if secretFlags[flag] {
			names = append(names, EnvName(flag)+"_FILE")
		}
	}
	var list []string
	for name, value := range s.env {
		rest, ours := strings.CutPrefix(name, EnvPrefix)
		if !ours || slices.Contains(names, name) || strings.HasPrefix(rest, "PORT_") || strings.HasPrefix(rest, "SERVICE_") || strings.HasPrefix(rest, "TEST_") {
			continue
		}
		if rest == "PORT" {
			if !strings.Contains(value, "://") {
				list = append(list, fmt.Sprintf("%s is set, but there is no such setting; did you mean PORT or %s?", name, EnvName("addr")))
			}
			continue
		}
		list = append(list, fmt.Sprintf("%s is set, but there is no such setting%s", name, s.nearest(name, names)))
	}
	slices.Sort(list)
	return list
}

// nearest suggests the name that was probably meant.
func (s *Sources) nearest(wrong string, names []string) string {
	best, least := "", len(wrong)/2+1
	slices.Sort(names)
	for _, name := range names {
		if d := distance(wrong, name); d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", best)
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
