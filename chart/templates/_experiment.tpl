{{/* berth.experimentEnv: where the server finds its experiments and its peers. Give root and slot. */}}
{{- define "berth.experimentEnv" -}}
{{- $experiment := .slot.experiment -}}
{{- if $experiment.experiments }}
- {name: BERTH_EXPERIMENT_FILE, value: /etc/berth/experiments/experiments.json}
- name: BERTH_PEERS
  value: {{ printf "%s:8000" (include "berth.host" (dict "root" .root "name" (include "berth.name" (dict "root" .root "suffix" (printf "%s-pods" .slot.name))))) }}
{{- end }}
{{- if $experiment.stateClaim }}
- {name: BERTH_EXPERIMENT_STATE_DIR, value: /var/lib/berth/experiments}
{{- end }}
{{- end -}}

{{/* berth.experimentMounts: the mounts for them. Give the slot's experiment. */}}
{{- define "berth.experimentMounts" -}}
{{- if .experiments }}
# A directory: a file mounted by subPath would never change.
- {name: experiments, mountPath: /etc/berth/experiments, readOnly: true}
{{- end }}
{{- if .stateClaim }}
- {name: experiment-state, mountPath: /var/lib/berth/experiments}
{{- end }}
{{- end -}}

{{/* berth.experimentVolumes: the volumes for them. Give root and slot. */}}
{{- define "berth.experimentVolumes" -}}
{{- $experiment := .slot.experiment -}}
{{- if $experiment.experiments -}}
- name: experiments
  configMap:
    name: {{ include "berth.name" (dict "root" .root "suffix" (printf "%s-experiments" .slot.name)) }}
{{- end }}
{{- with $experiment.stateClaim }}
- name: experiment-state
  persistentVolumeClaim: {claimName: {{ . }}}
{{- end }}
{{- end -}}
