{{- define "labels" -}}
app.kubernetes.io/name: galerly-cdn
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* The settings of every process of galerly-cdn, and the store's credentials. */}}
{{- define "settings" -}}
- name: GALERLY_STORE
  value: {{ required "store.address: the store that all nodes share, such as s3://photographs" .Values.store.address | quote }}
{{- with .Values.store.endpoint }}
- name: GALERLY_STORE_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- range $name, $value := .Values.settings }}
- name: GALERLY_{{ $name | upper }}
  value: {{ if kindIs "slice" $value }}{{ $value | join ";" | quote }}{{ else }}{{ kindIs "string" $value | ternary $value (toJson $value) | quote }}{{ end }}
{{- end }}
{{- end }}

{{/* A request is no limit of CPU time: without this there is a worker for each core of the machine. */}}
{{- define "workers" -}}
{{- if not (hasKey .settings "workers") -}}
- name: GALERLY_WORKERS
  valueFrom:
    resourceFieldRef: {containerName: {{ .container }}, resource: requests.cpu}
{{- end }}
{{- end }}

{{- define "credentials" -}}
{{- with .Values.store.credentialsSecret -}}
envFrom:
  - secretRef:
      name: {{ . }}
{{- end }}
{{- end }}

{{- define "podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "security" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Pods of a component on different machines and zones. */}}
{{- define "spread" -}}
{{- range $index, $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- maxSkew: 1
  topologyKey: {{ $key }}
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels: {{- include "labels" $ | nindent 6 }}
{{- end }}
{{- end }}

{{/* What a process of galerly-cdn writes: /tmp and the cache. */}}
{{- define "volumes" -}}
- name: temporary
  emptyDir:
    sizeLimit: {{ .Values.nodes.diskSize }}
- name: cache
  emptyDir:
    sizeLimit: 1Gi
{{- end }}

{{- define "mounts" -}}
- name: temporary
  mountPath: /tmp
- name: cache
  mountPath: /var/cache
{{- end }}

{{/* The mebibytes of a size in Gi or Mi. */}}
{{- define "mebibytes" -}}
{{- if hasSuffix "Gi" . }}{{ mul (trimSuffix "Gi" . | int) 1024 }}{{ else }}{{ trimSuffix "Mi" . | int }}{{ end }}
{{- end }}

{{/* Names and the store. */}}
{{- define "storeEgress" -}}
- ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
- ports:
    {{- range .Values.store.ports }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
{{- end }}
