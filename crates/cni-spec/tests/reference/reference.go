// Says what the Go types of the reference make of documents: a request a line on standard input, an answer a line on
// standard output, both JSON.
//
// It decides nothing; what must be equal and what may differ is said by the test that asks.
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/utils"
	"github.com/containernetworking/cni/pkg/version"
)

type request struct {
	// What to do with the text; see answers.
	Do   string `json:"do"`
	Text string `json:"text"`
	// The version that a result is wanted in.
	To string `json:"to"`
}

type answer struct {
	Output string `json:"output"`
	Error  string `json:"error"`
}

var answers = map[string]func(request) (string, error){
	"result":    result,
	"config":    config,
	"list":      list,
	"error":     pluginError,
	"reply":     reply,
	"args":      args,
	"number":    number,
	"container": func(r request) (string, error) { return refusal(utils.ValidateContainerID(r.Text)) },
	"network":   func(r request) (string, error) { return refusal(utils.ValidateNetworkName(r.Text)) },
	"interface": func(r request) (string, error) { return refusal(utils.ValidateInterfaceName(r.Text)) },
	"lenient":   lenient,
}

func main() {
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<26)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		if err := out.Encode(handle(in.Bytes())); err != nil {
			panic(err)
		}
	}
}

// The reference panics over some documents; that is an answer too.
func handle(line []byte) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			a = answer{Error: fmt.Sprintf("panic: %v", p)}
		}
	}()
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		panic(err)
	}
	output, err := answers[r.Do](r)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Output: output}
}

func result(r request) (string, error) {
	read, err := create.CreateFromBytes([]byte(r.Text))
	if err != nil {
		return "", err
	}
	converted, err := read.GetAsVersion(r.To)
	if err != nil {
		return "", err
	}
	var printed bytes.Buffer
	if err := converted.PrintTo(&printed); err != nil || r.To < "1" {
		return printed.String(), err
	}
	// Newer libraries print 1.0.0 through a map and leave out empty DNS.
	members := map[string]interface{}{}
	decoder := json.NewDecoder(&printed)
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil {
		return "", err
	}
	if dns, ok := members["dns"].(map[string]interface{}); ok && len(dns) == 0 {
		delete(members, "dns")
	}
	text, err := json.MarshalIndent(members, "", "    ")
	return string(text), err
}

func config(r request) (string, error) {
	read, err := libcni.ConfFromBytes([]byte(r.Text))
	if err != nil {
		return "", err
	}
	return common(read.Network)
}

func list(r request) (string, error) {
	read, err := libcni.ConfListFromBytes([]byte(r.Text))
	if err != nil {
		return "", err
	}
	parts := []interface{}{read.Name, read.CNIVersion, read.DisableCheck}
	for _, plugin := range read.Plugins {
		text, err := common(plugin.Network)
		if err != nil {
			return "", err
		}
		parts = append(parts, json.RawMessage(text))
	}
	return printed(parts)
}

func common(c *types.NetConf) (string, error) {
	return printed([]interface{}{c.CNIVersion, c.Name, c.Type, len(c.Capabilities), c.Capabilities["mac"], c.IPAM.Type, c.DNS,
		c.RawPrevResult != nil})
}

func pluginError(r request) (string, error) {
	var read types.Error
	if err := json.Unmarshal([]byte(r.Text), &read); err != nil {
		return "", err
	}
	return printed([]interface{}{read.Code, read.Msg, read.Details, read.Error()})
}

func reply(r request) (string, error) {
	read, err := (&version.PluginDecoder{}).Decode([]byte(r.Text))
	if err != nil {
		return "", err
	}
	return printed(read.SupportedVersions())
}

func args(r request) (string, error) {
	read := struct {
		types.CommonArgs
		IP, MAC types.UnmarshallableString
	}{}
	if err := types.LoadArgs(r.Text, &read); err != nil {
		return "", err
	}
	return printed([]types.UnmarshallableString{read.IP, read.MAC})
}

func number(r request) (string, error) {
	major, minor, micro, err := version.ParseVersion(r.Text)
	if err != nil {
		return "", err
	}
	return printed([]int{major, minor, micro})
}

func refusal(err *types.Error) (string, error) {
	if err != nil {
		return "", fmt.Errorf("%d %s", err.Code, err)
	}
	return "", nil
}

// A type with a field of every kind that configurations have.
type careless struct {
	Name      string            `json:"name"`
	IsGateway bool              `json:"isGateway"`
	MTU       uint32            `json:"mtu"`
	Offset    int64             `json:"offset"`
	Maybe     *int64            `json:"maybe,omitempty"`
	List      []string          `json:"list,omitempty"`
	Sysctl    map[string]string `json:"sysctl,omitempty"`
	Nested    struct {
		Kind string  `json:"kind"`
		Deep [][]int `json:"deep,omitempty"`
	} `json:"nested"`
}

func lenient(r request) (string, error) {
	var read careless
	if err := json.Unmarshal([]byte(r.Text), &read); err != nil {
		return "", err
	}
	return printed(read)
}

func printed(value interface{}) (string, error) {
	text, err := json.Marshal(value)
	return string(text), err
}
