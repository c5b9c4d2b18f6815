package main

import "testing"

// TestMutationsFitTheCode: a mutation whose text is no longer in the core would be found out only when somebody runs them all.
func TestMutationsFitTheCode(t *testing.T) {
	t.Chdir("../..")
	for _, m := range mutations {
		if _, err := m.overlay(t.TempDir()); err != nil {
			t.Errorf("%s: %v", m.name, err)
		}
	}
}
