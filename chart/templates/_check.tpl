{{/* berth.servicePort: the ports of the Services, http and with grpc.enabled that. Give root and, for the active Service, nodePort. */}}
{{- define "berth.servicePort" -}}
- name: http
  port: {{ .root.Values.service.port }}
  targetPort: http
  protocol: TCP
  {{- with .root.Values.service.appProtocol }}
  appProtocol: {{ . }}
  {{- end }}
  {{- if and .nodePort (ne .root.Values.service.type "ClusterIP") }}
  nodePort: {{ .nodePort }}
  {{- end }}
{{- if .root.Values.grpc.enabled }}
- {name: grpc, port: {{ .root.Values.grpc.port }}, targetPort: grpc, protocol: TCP, appProtocol: grpc}
{{- end }}
{{- end -}}

{{/* berth.url: address of one of the release's Services. Give root and name. */}}
{{- define "berth.url" -}}
{{- printf "http://%s:%v" (include "berth.host" .) .root.Values.service.port -}}
{{- end -}}

{{/* berth.request: the sample prediction as one argument, or nothing; $( would be read by Kubernetes. */}}
{{- define "berth.request" -}}
{{- with .Values.gate.request }}
- {{ printf "--request=%s" (toJson .) | replace "$(" "$$(" | quote }}
{{- end }}
{{- with .Values.gate.apiKeySecret.name }}
- --api-key-file=/etc/berth/key/key
{{- end }}
{{- end -}}

{{/* berth.checkPod: metadata and spec of a pod that asks the slots: gate, verify and helm test. Give root, slot, component and args. */}}
{{- define "berth.checkPod" -}}
{{- $gate := .root.Values.gate -}}
{{- $slot := .slot -}}
metadata:
  {{- with include "berth.present" $gate.podAnnotations | fromYaml }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  # No slot label: these pods must never stand behind a Service.
  labels:
    {{- include "berth.release" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
    {{- with include "berth.present" $gate.podLabels | fromYaml }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  {{- include "berth.checkSpec" . | nindent 2 }}
{{- end -}}

{{/* berth.checkSpec: the spec alone. It names nothing that this revision makes: at the gate's time none of it exists. */}}
{{- define "berth.checkSpec" -}}
{{- $gate := .root.Values.gate -}}
{{- $slot := .slot -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
{{ include "berth.podBasics" (dict "slot" $slot) | trim }}
{{- with $slot.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $slot.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: {{ .component }}
    image: {{ $slot.image.reference }}
    imagePullPolicy: {{ $slot.image.pullPolicy }}
    args:
      {{- toYaml .args | nindent 6 }}
      {{- include "berth.request" .root | nindent 6 }}
    {{- with .env }}
    env:
      {{- range $name, $value := . }}
      - {name: {{ $name }}, value: {{ $value | quote }}}
      {{- end }}
    {{- end }}
    resources:
      {{- toYaml $gate.resources | nindent 6 }}
    securityContext:
      {{- toYaml $slot.containerSecurityContext | nindent 6 }}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      {{- if $gate.apiKeySecret.name }}
      - {name: key, mountPath: /etc/berth/key, readOnly: true}
      {{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 64Mi}
  {{- with $gate.apiKeySecret }}
  {{- if .name }}
  - name: key
    secret:
      secretName: {{ .name }}
      items: [{key: {{ .key | quote }}, path: key}]
  {{- end }}
  {{- end }}
{{- end -}}

{{/* berth.verifyArgs: arguments that check whether a Service responds from a slot. Give root, service, slot and connections. */}}
{{- define "berth.verifyArgs" -}}
- gate
- --verify
- --active-url={{ include "berth.url" (dict "root" .root "name" .service) }}
- --target-slot={{ .slot }}
- --connections={{ .connections }}
- --timeout-seconds={{ .root.Values.verify.timeoutSeconds }}
{{- end -}}

{{/* berth.analysisArgs: arguments with which verify compares the canary with the active slot. */}}
{{- define "berth.analysisArgs" -}}
{{- $analysis := .Values.canary.analysis -}}
{{- $canary := include "berth.slot" (dict "root" $ "slot" (include "berth.otherSlot" .)) | fromYaml -}}
- --release={{ .Release.Name }}
- --live-host={{ include "berth.host" (dict "root" $ "name" (include "berth.name" (dict "root" $ "suffix" (printf "%s-pods" .Values.activeSlot)))) }}
- --canary-host={{ include "berth.host" (dict "root" $ "name" (include "berth.name" (dict "root" $ "suffix" (printf "%s-pods" $canary.name)))) }}
- --canary-fingerprint={{ $canary.fingerprint }}
- --canary-seconds={{ int64 $analysis.seconds }}
- --canary-min-requests={{ int64 $analysis.minRequests }}
- --canary-max-error-increase={{ toJson $analysis.maxErrorIncrease }}
- --canary-max-latency-ratio={{ toJson $analysis.maxLatencyRatio }}
- --canary-max-drift={{ toJson $analysis.maxDrift }}
- --canary-inconclusive={{ $analysis.inconclusive }}
{{- end -}}

{{/* berth.routeArgs: arguments with which verify asks through the route, or nothing. An Ingress leads to the active Service, whatever the canary. */}}
{{- define "berth.routeArgs" -}}
{{- $values := .Values -}}
{{- $host := "" -}}
{{- if $values.ingress.enabled -}}
{{- $host = (first $values.ingress.hosts).host -}}
{{- else if $values.httpRoute.enabled -}}
{{- $host = first ($values.httpRoute.hostnames | default (list "")) -}}
{{- else if $values.istio.enabled -}}
{{- $host = first $values.istio.hosts -}}
{{- else if $values.traefik.enabled -}}
{{- $host = first $values.traefik.hosts -}}
{{- end -}}
- --route-url={{ $values.verify.routeUrl }}
{{- with $host }}
- --route-host={{ . | replace "*" "verify" }}
{{- end }}
{{- if and $values.canary.weight (not $values.ingress.enabled) }}
- --route-shares
{{- end }}
{{- end -}}
