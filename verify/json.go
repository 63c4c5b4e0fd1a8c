package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// encoding/json takes "ISS" for "iss" and the last of two equal names; other
// parsers do otherwise, and between two readings an attacker finds room
// (RFC 8725 section 2.6). Hence this walk: names are exact and unique, at
// every depth, and text is UTF-8.

const maxDepth = 32

var (
	errNoObject = errors.New("expected one JSON object")
	errNotText  = errors.New("expected a string")
	errUTF8     = errors.New("not UTF-8")
	errTooDeep  = fmt.Errorf("nested more than %d deep", maxDepth)
)

// members calls visit for each member of the object that data is, in order.
// name is decoded, value is JSON. Both point into data where they can.
func members(data []byte, visit func(name, value []byte) error) error {
	if !utf8.Valid(data) {
		return errUTF8
	}
	if !json.Valid(data) {
		return errNoObject
	}
	i := space(data, 0)
	if data[i] != '{' {
		return errNoObject
	}
	_, err := object(data, i, 1, visit)
	return err
}

// elements calls visit for each element of the array that value is. value
// must have come from members.
func elements(value []byte, visit func(element []byte) error) error {
	if value[0] != '[' {
		return errors.New("expected an array")
	}
	for i := space(value, 1); value[i] != ']'; {
		end, err := skip(value, i, 1)
		if err != nil {
			return err
		}
		if err := visit(value[i:end]); err != nil {
			return err
		}
		if i = space(value, end); value[i] == ',' {
			i = space(value, i+1)
		}
	}
	return nil
}

// object walks the object at data[i] and returns the index behind it. Like
// all below it relies on data being valid JSON.
func object(data []byte, i, depth int, visit func(name, value []byte) error) (int, error) {
	if depth > maxDepth {
		return 0, errTooDeep
	}
	var seen names
	for i = space(data, i+1); data[i] != '}'; {
		end := stringEnd(data, i)
		name, err := unquote(data[i:end])
		if err != nil {
			return 0, err
		}
		if !seen.add(name) {
			return 0, fmt.Errorf("member %s is there twice", brief(string(name)))
		}
		start := space(data, space(data, end)+1) // behind the colon
		if end, err = skip(data, start, depth); err != nil {
			return 0, err
		}
		if visit != nil {
			if err := visit(name, data[start:end]); err != nil {
				return 0, err
			}
		}
		if i = space(data, end); data[i] == ',' {
			i = space(data, i+1)
		}
	}
	return i + 1, nil
}

// skip returns the index behind the value at data[i], having looked for
// repeated names in it.
func skip(data []byte, i, depth int) (int, error) {
	switch data[i] {
	case '{':
		return object(data, i, depth+1, nil)
	case '[':
		if depth >= maxDepth {
			return 0, errTooDeep
		}
		for i = space(data, i+1); data[i] != ']'; {
			end, err := skip(data, i, depth+1)
			if err != nil {
				return 0, err
			}
			if i = space(data, end); data[i] == ',' {
				i = space(data, i+1)
			}
		}
		return i + 1, nil
	case '"':
		return stringEnd(data, i), nil
	default: // a number or a literal
		for ; i < len(data); i++ {
			switch data[i] {
			case ',', ']', '}', ' ', '\t', '\r', '\n':
				return i, nil
			}
		}
		return i, nil
	}
}

func space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\r' || data[i] == '\n') {
		i++
	}
	return i
}

func stringEnd(data []byte, i int) int {
	for i++; data[i] != '"'; i++ {
		if data[i] == '\\' {
			i++
		}
	}
	return i + 1
}

func unquote(quoted []byte) ([]byte, error) {
	if bytes.IndexByte(quoted, '\\') < 0 {
		return quoted[1 : len(quoted)-1], nil
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return nil, err
	}
	// An escaped half of a surrogate pair is no character; parsers differ on
	// what becomes of it.
	if strings.ContainsRune(s, utf8.RuneError) {
		return nil, errUTF8
	}
	return []byte(s), nil
}

// text reads a JSON string.
func text(value []byte) (string, error) {
	if value[0] != '"' {
		return "", errNotText
	}
	s, err := unquote(value)
	return string(s), err
}

// texts reads a JSON array of strings.
func texts(value []byte) ([]string, error) {
	var list []string
	err := elements(value, func(element []byte) error {
		s, err := text(element)
		list = append(list, s)
		return err
	})
	return list, err
}

// names is a set that needs no memory of its own while it is small, and no
// quadratic time when it is not.
type names struct {
	few  [20][]byte
	n    int
	many map[string]struct{}
}

// add says whether name is new.
func (s *names) add(name []byte) bool {
	if s.many != nil {
		before := len(s.many)
		s.many[string(name)] = struct{}{}
		return len(s.many) > before
	}
	for _, other := range s.few[:s.n] {
		if bytes.Equal(other, name) {
			return false
		}
	}
	if s.n < len(s.few) {
		s.few[s.n] = name
		s.n++
		return true
	}
	s.many = make(map[string]struct{}, 2*len(s.few))
	for _, other := range s.few {
		s.many[string(other)] = struct{}{}
	}
	s.many[string(name)] = struct{}{}
	return true
}
