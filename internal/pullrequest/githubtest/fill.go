package githubtest

import (
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
)

// object is the part of an answer that a handler knows; fill adds the rest.
type object = map[string]any

// list is a JSON array of an answer.
type list = []any

// fill completes what a handler knows with the smallest value that the schema
// allows, so that every answer has each member that GitHub promises although
// the handlers state only what has a meaning here.
func fill(schema *openapi3.Schema, known any) any {
	if schema == nil {
		return known
	}
	if alternatives := append(slices.Clone(schema.OneOf), schema.AnyOf...); len(alternatives) > 0 {
		return fill(choose(alternatives, known), known)
	}
	switch v := known.(type) {
	case object:
		full := make(object, len(v)+len(schema.Required))
		for name, value := range v {
			full[name] = value
			if p := schema.Properties[name]; p != nil {
				full[name] = fill(p.Value, value)
			}
		}
		for _, name := range schema.Required {
			if _, set := full[name]; !set && schema.Properties[name] != nil {
				full[name] = sample(schema.Properties[name].Value)
			}
		}
		return full
	case list:
		full := make(list, len(v))
		for i, value := range v {
			full[i] = value
			if schema.Items != nil {
				full[i] = fill(schema.Items.Value, value)
			}
		}
		return full
	}
	return known
}

// sample is the smallest value of a schema.
func sample(schema *openapi3.Schema) any {
	switch {
	case schema.Nullable:
		return nil
	case len(schema.Enum) > 0:
		return schema.Enum[0]
	case schema.Type.Is("object"):
		return fill(schema, object{})
	case schema.Type.Is("array"):
		return list{}
	case schema.Type.Is("boolean"):
		return false
	case schema.Type.Is("integer"), schema.Type.Is("number"):
		return 1
	case schema.Format == "uri":
		return "https://github.example/"
	case schema.Format == "date-time":
		return "2020-01-01T00:00:00Z"
	}
	return "x"
}

// choose picks the alternative that the known part fits: an array for a list,
// and for an object the first one whose enumerated members agree.
func choose(alternatives openapi3.SchemaRefs, known any) *openapi3.Schema {
	for _, alternative := range alternatives {
		schema := alternative.Value
		switch v := known.(type) {
		case list:
			if schema.Type.Is("array") {
				return schema
			}
		case object:
			agrees := len(schema.Properties) > 0
			for name, p := range schema.Properties {
				if value, set := v[name]; set && len(p.Value.Enum) > 0 && !slices.Contains(p.Value.Enum, value) {
					agrees = false
				}
			}
			if agrees {
				return schema
			}
		default:
			if !schema.Type.Is("object") && !schema.Type.Is("array") {
				return schema
			}
		}
	}
	return alternatives[0].Value
}
