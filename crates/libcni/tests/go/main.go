// A small runtime on the reference's libcni, for the tests that ours and it share hosts, caches and plugins.
//
//	main add|check|del|cached BIN CACHE CONFLIST CONTAINER
//
// add prints the result; cached prints what the cache knows.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/containernetworking/cni/libcni"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 5 {
		return fmt.Errorf("five arguments are wanted, not %d", len(args))
	}
	verb, bin, cache, conflist, container := args[0], args[1], args[2], args[3], args[4]
	list, err := libcni.ConfListFromFile(conflist)
	if err != nil {
		return err
	}
	cni := libcni.NewCNIConfigWithCacheDir([]string{bin}, cache, nil)
	attachment := &libcni.RuntimeConf{ContainerID: container, NetNS: "/run/netns/" + container, IfName: "eth0"}
	ctx := context.Background()
	switch verb {
	case "add":
		attachment.Args = [][2]string{{"K", "<V>"}, {"IgnoreUnknown", "1"}}
		attachment.CapabilityArgs = map[string]interface{}{"mac": "00:01", "ports": []int{80}}
		result, err := cni.AddNetworkList(ctx, list, attachment)
		if err != nil {
			return err
		}
		return result.Print()
	case "check":
		return cni.CheckNetworkList(ctx, list, attachment)
	case "del":
		return cni.DelNetworkList(ctx, list, attachment)
	case "cached":
		return printCached(cni, list, attachment)
	}
	return fmt.Errorf("unknown verb %q", verb)
}

func printCached(cni *libcni.CNIConfig, list *libcni.NetworkConfigList, attachment *libcni.RuntimeConf) error {
	result, err := cni.GetNetworkListCachedResult(list, attachment)
	if err != nil {
		return err
	}
	config, known, err := cni.GetNetworkListCachedConfig(list, attachment)
	if err != nil {
		return err
	}
	output := map[string]interface{}{"result": result, "config": string(config)}
	if known != nil {
		output["args"] = known.Args
		output["capabilityArgs"] = known.CapabilityArgs
	}
	return json.NewEncoder(os.Stdout).Encode(output)
}
