// Asks Kubernetes' own library which of some wanted rules other rules do not hold. Reads cases from standard input and
// writes them with the answers; see cases.ts for how to run it.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"
)

type testCase struct {
	Held    []rbacv1.PolicyRule `json:"held"`
	Wanted  []rbacv1.PolicyRule `json:"wanted"`
	Missing []rbacv1.PolicyRule `json:"missing"`
}

func main() {
	var cases []testCase
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	fmt.Println("[")
	for i := range cases {
		_, missing := validation.Covers(cases[i].Held, cases[i].Wanted)
		cases[i].Missing = append([]rbacv1.PolicyRule{}, missing...)
		line, err := json.Marshal(cases[i])
		if err != nil {
			panic(err)
		}
		comma := ","
		if i == len(cases)-1 {
			comma = ""
		}
		fmt.Printf("%s%s\n", line, comma)
	}
	fmt.Println("]")
}
