package config

import (
	"fmt"
	"reflect"
	"strings"

	"example.com/authserver/internal/secret"
)

// Value is a setting as it is in force.
type Value struct {
	Flag  string
	Value string // secrets redacted
}

// Values lists every setting with its effective value.
func Values(c *Config) []Value {
	v := reflect.ValueOf(c).Elem()
	list := make([]Value, 0, v.NumField())
	for i, s := range Settings() {
		list = append(list, Value{s.Flag, spell(v.Field(i).Interface())})
	}
	return list
}

func spell(value any) string {
	switch v := value.(type) {
	case secret.Text:
		if v.IsEmpty() {
			return ""
		}
		return v.String()
	case []secret.Text:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = v[i].String()
		}
		return strings.Join(parts, ",")
	}
	if r := reflect.ValueOf(value); r.Kind() == reflect.Slice {
		parts := make([]string, r.Len())
		for i := range parts {
			parts[i] = fmt.Sprint(r.Index(i).Interface())
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(value)
}
