{{/* berth.modelMount: where the store is mounted. Give slot and readOnly. */}}
{{- define "berth.modelMount" -}}
name: models
mountPath: {{ .slot.model.path }}
{{- with .slot.model.subPath }}
subPath: {{ . }}
{{- end }}
{{- if .readOnly }}
readOnly: true
{{- end }}
{{- end -}}

{{/* berth.volumes: the volumes of a slot's pods. */}}
{{- define "berth.volumes" -}}
{{- $slot := .slot -}}
- name: tmp
  emptyDir: {sizeLimit: {{ toJson $slot.tmpSize }}}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ toJson $slot.shmSize }}}
{{- if $slot.reads }}
- name: models
  {{- include "berth.modelVolume" . | nindent 2 }}
{{- end }}
{{- with include "berth.signatureKeysVolume" . }}
{{ . }}
{{- end }}
{{- if $slot.auth.enabled }}
- name: api-keys
  secret:
    secretName: {{ $slot.auth.existingSecret | default (include "berth.name" (dict "root" .root "suffix" "api-keys")) }}
    items: [{key: api-keys, path: api-keys}]
{{- end }}
{{- with include "berth.experimentVolumes" . }}
{{ . }}
{{- end }}
{{- with .root.Values.feedback }}
{{- if .existingSecret }}
- name: feedback-keys
  secret:
    secretName: {{ .existingSecret }}
    items: [{key: {{ .key }}, path: keys}]
{{- end }}
{{- end }}
{{- with $slot.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* berth.signatureKeysVolume: the Secret with the public keys of who may sign models, if any. Give slot. */}}
{{- define "berth.signatureKeysVolume" -}}
{{- with .slot.model.signatureKeysSecret -}}
- name: signature-keys
  secret:
    secretName: {{ . }}
    items: [{key: keys.pem, path: keys.pem}]
{{- end }}
{{- end -}}

{{/* berth.signatureKeysMount: where that Secret is mounted. Give slot. */}}
{{- define "berth.signatureKeysMount" -}}
{{- if .slot.model.signatureKeysSecret -}}
- {name: signature-keys, mountPath: /etc/berth/signature-keys, readOnly: true}
{{- end }}
{{- end -}}

{{/* berth.signatureKeysEnv: the setting that names the file. Give slot. */}}
{{- define "berth.signatureKeysEnv" -}}
{{- if .slot.model.signatureKeysSecret -}}
- {name: BERTH_SIGNATURE_KEYS_FILE, value: /etc/berth/signature-keys/keys.pem}
{{- end }}
{{- end -}}

{{/* berth.modelVolume: where the store comes from. */}}
{{- define "berth.modelVolume" -}}
{{- $model := .slot.model -}}
{{- if eq $model.source "init" -}}
emptyDir: {sizeLimit: {{ toJson $model.scratchSize }}}
{{- else if eq $model.source "oci" -}}
image: {reference: {{ $model.uri | quote }}, pullPolicy: {{ .slot.image.pullPolicy }}}
{{- else -}}
persistentVolumeClaim:
  claimName: {{ $model.existingClaim | default (include "berth.name" (dict "root" .root "suffix" (printf "%s-models" .slot.name))) }}
{{- end -}}
{{- end -}}
