package node

import "strings"

// maxComparedBytes bounds the cost of comparing an unknown key, which may be of any length.
const maxComparedBytes = 64

// keyGroups holds the paths of the objects that contain keys: "relay", "webrtc.ice_config", ...
// knownPaths holds them and the keys.
var keyGroups, knownPaths = func() (map[string]bool, []string) {
	groups, paths := map[string]bool{}, []string{}
	for _, key := range configKeys {
		paths = append(paths, key.Path)
		for path := parentPath(key.Path); path != "" && !groups[path]; path = parentPath(path) {
			groups[path] = true
			paths = append(paths, path)
		}
	}
	return groups, paths
}()

// keyByPath finds a key by its dotted path.
var keyByPath = func() map[string]configKey {
	byPath := make(map[string]configKey, len(configKeys))
	for _, key := range configKeys {
		byPath[key.Path] = key
	}
	return byPath
}()

// nearestKey finds the known path that an unknown name at prefix most likely means: a similar name
// at the same level, the name of the Python argument, a similar name at another level, or else
// whatever is least different, within its group if it is in one.
func nearestKey(prefix, name string) string {
	similar := max(1, len(name)/3)
	sibling, distance := nearestSibling(prefix, name)
	if distance <= similar {
		return sibling
	}
	for _, key := range configKeys {
		if key.Python == name {
			return key.Path
		}
	}
	if other, distance := nearestAnywhere(prefix, name); prefix == "" || distance <= similar {
		return other
	}
	return sibling
}

func nearestSibling(prefix, name string) (nearest string, least int) {
	least = maxComparedBytes
	for _, key := range configKeys {
		rest, below := strings.CutPrefix(key.Path, prefix)
		if !below {
			continue
		}
		sibling, _, _ := strings.Cut(rest, ".")
		if distance := editDistance(name, sibling); distance < least {
			nearest, least = prefix+sibling, distance
		}
	}
	return nearest, least
}

// nearestAnywhere passes over the groups that the unknown name is in: they are known to the writer.
func nearestAnywhere(prefix, name string) (nearest string, least int) {
	path := prefix + name
	nearest, least = knownPaths[0], maxComparedBytes
	for _, known := range knownPaths {
		if strings.HasPrefix(prefix, known+".") {
			continue
		}
		distance := min(editDistance(path, known), editDistance(lastName(path), lastName(known)))
		if distance < least {
			nearest, least = known, distance
		}
	}
	return nearest, least
}

// editDistance counts insertions, deletions, replacements and swaps of neighbours that turn a into
// b, without regard to case (optimal string alignment).
func editDistance(a, b string) int {
	a = strings.ToLower(a[:min(len(a), maxComparedBytes)])
	b = strings.ToLower(b)
	beforeLast, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], beforeLast[j-2]+1)
			}
		}
		beforeLast, last = last, row
	}
	return last[len(b)]
}

// nestedForm writes "relay.enable_client" as {"relay": {"enable_client": ...}}.
func nestedForm(path string) string {
	names := strings.Split(path, ".")
	return `{"` + strings.Join(names, `": {"`) + `": ...` + strings.Repeat("}", len(names))
}

func hasDot(name string) bool { return strings.Contains(name, ".") }

func parentPath(path string) string { return path[:max(0, strings.LastIndexByte(path, '.'))] }

func lastName(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }
