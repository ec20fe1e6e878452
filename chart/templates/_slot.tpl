{{/* berth.overlay: lays .over on .under in place, map by map; a null takes the key away. */}}
{{- define "berth.overlay" -}}
{{- $under := .under -}}
{{- range $key, $value := .over -}}
  {{- if kindIs "invalid" $value -}}
    {{- $_ := unset $under $key -}}
  {{- else if and (kindIs "map" $value) (kindIs "map" (get $under $key)) -}}
    {{- include "berth.overlay" (dict "under" (get $under $key) "over" $value) -}}
  {{- else -}}
    {{- $_ := set $under $key $value -}}
  {{- end -}}
{{- end -}}
{{- end -}}

{{/* berth.strip: takes null entries out of a map and the maps inside it, in place. */}}
{{- define "berth.strip" -}}
{{- $map := . -}}
{{- range $key := keys $map -}}
  {{- $value := get $map $key -}}
  {{- if kindIs "invalid" $value }}{{ $_ := unset $map $key }}{{ else if kindIs "map" $value }}{{ include "berth.strip" $value }}{{ end -}}
{{- end -}}
{{- end -}}

{{/* berth.version: a model's version as text, given as a number or a string. */}}
{{- define "berth.version" -}}
{{- if kindIs "string" . }}{{ . }}{{ else if not (kindIs "invalid" .) }}{{ int64 . }}{{ end -}}
{{- end -}}

{{/* berth.slot: one slot as YAML: slotDefaults with the slot's own keys on top, and what follows from them:
     name, on, image.reference, models, pulls, reads, oneNode, workers, fingerprint. Give root and slot; read with fromYaml. */}}
{{- define "berth.slot" -}}
{{- $own := get .root.Values.slots .slot -}}
{{- $slot := deepCopy .root.Values.slotDefaults -}}
{{- /* A slot's own tag or digest replaces both of the defaults': half of each would name an image nobody meant. */ -}}
{{- $ownImage := $own.image | default dict -}}
{{- if or $ownImage.tag $ownImage.digest }}{{ $_ := set $slot.image "tag" "" }}{{ $_ := set $slot.image "digest" "" }}{{ end -}}
{{- include "berth.overlay" (dict "under" $slot "over" (deepCopy $own)) -}}
{{- include "berth.strip" $slot -}}
{{- $_ := set $slot "name" .slot -}}
{{- $_ := set $slot "on" (has $slot.mode (list "serve" "standby")) -}}
{{- $_ := set $slot.model "version" (include "berth.version" $slot.model.version) -}}
{{- $_ := set $slot.image "reference" (include "berth.image" $slot.image) -}}
{{- $_ := set $slot "models" (include "berth.models" $slot.model) -}}
{{- $_ := set $slot "reads" (ne $slot.model.source "image") -}}
{{- $_ := set $slot "pulls" (and (has $slot.model.source (list "init" "pvc")) (ne $slot.model.uri "")) -}}
{{- $many := or (has "ReadWriteMany" $slot.model.claim.accessModes) (has "ReadOnlyMany" $slot.model.claim.accessModes) -}}
{{- $_ := set $slot "oneNode" (and (eq $slot.model.source "pvc") (not $many)) -}}
{{- $_ := set $slot "autoscaled" (or $slot.autoscaling.enabled $slot.keda.enabled) -}}
{{- $_ := set $slot "fingerprint" (include "berth.fingerprint" $slot) -}}
{{- toYaml $slot -}}
{{- end -}}

{{/* berth.image: repository:tag@digest. A digest of its own wins over the one in the tag, which a released chart's has. */}}
{{- define "berth.image" -}}
{{- $tag := .digest | empty | ternary .tag (splitList "@" .tag | first) -}}
{{- .repository -}}{{- with $tag }}:{{ . }}{{ end -}}{{- with .digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* berth.models: the value of BERTH_MODELS, the first model being /predict's. */}}
{{- define "berth.models" -}}
{{- $models := list -}}
{{- range prepend .others (pick . "name" "version") -}}
  {{- $version := include "berth.version" .version -}}
  {{- $models = append $models (list .name $version | compact | join "@") -}}
{{- end -}}
{{- join "," $models -}}
{{- end -}}

{{/* berth.fingerprint: twelve hex digits that change when what the slot serves changes, and for nothing else. */}}
{{- define "berth.fingerprint" -}}
{{- pick . "image" "model" "config" "watch" "resources" "gpu" "restartToken" | toJson | sha256sum | trunc 12 -}}
{{- end -}}

{{/* berth.settings: the slot's BERTH_ settings, those that are alike in all its pods, as a map of strings. */}}
{{- define "berth.settings" -}}
{{- $settings := dict -}}
{{- range $key, $value := .config -}}
  {{- $text := kindIs "string" $value | ternary $value (toJson $value) -}}
  {{- /* YAML reads a bare off as false. */ -}}
  {{- if and (has $key (list "accelerate" "pickle" "payloadLog")) (kindIs "bool" $value) }}{{ $text = "off" }}{{ end -}}
  {{- if kindIs "slice" $value }}{{ $text = join "," $value }}{{ end -}}
  {{- if and (eq $key "workers") $.gpu.enabled (eq $text "auto") }}{{ $text = toJson $.gpu.count }}{{ end -}}
  {{- $_ := set $settings (printf "BERTH_%s" (snakecase $key | upper)) $text -}}
{{- end -}}
{{- $_ := set $settings "BERTH_WATCH_MINUTES" (toJson .watch.minutes) -}}
{{- $_ := set $settings "BERTH_WATCH_ROWS" (toJson .watch.rowsPerSecond) -}}
{{- toYaml $settings -}}
{{- end -}}
