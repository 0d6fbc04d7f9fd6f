{{- define "monitor.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "monitor.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "monitor.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "monitor.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "monitor.selector" -}}
app.kubernetes.io/name: {{ include "monitor.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "monitor.labels" -}}
{{ include "monitor.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "monitor.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "monitor.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "monitor.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{- /* The agent's configuration: what the chart's own values say, and above it .Values.config. */ -}}
{{- define "monitor.config" -}}
{{- $spool := dict "directory" "/var/lib/monitor/spool" "max_mib" (int .Values.spool.maxMib) }}
{{- $metrics := dict "listen" (printf "0.0.0.0:%d" (int .Values.metrics.port)) }}
{{- $config := dict "cluster_name" .Values.clusterName "spool" $spool "metrics" $metrics }}
{{- if include "monitor.keepsProfiles" . }}
{{- $_ := set $config "seccomp_profiles" (dict "from" "/etc/monitor-seccomp" "root" "/host/var/lib/kubelet/seccomp") }}
{{- end }}
{{- if .Values.kubernetes.enabled }}
{{- $kubernetes := dict "pods" true }}
{{- with .Values.kubernetes.node }}
{{- if .enabled }}
{{- $_ := set $kubernetes "node" (dict "mode" .mode "taint" .taint "fail_open_s" (int .failOpenSeconds)) }}
{{- end }}
{{- end }}
{{- $_ := set $config "kubernetes" $kubernetes }}
{{- end }}
{{- toYaml (mergeOverwrite $config (deepCopy .Values.config)) }}
{{- end }}

{{- /* Whether seccomp profiles are kept on the nodes; nothing else than true and empty. */ -}}
{{- define "monitor.keepsProfiles" -}}
{{- with .Values.seccompProfiles }}
{{- if and .enabled (not .remove) }}
{{- if and (not .configMap) (not .profiles) }}
{{- fail "seccompProfiles.enabled: name profiles in seccompProfiles.profiles, or a ConfigMap in seccompProfiles.configMap" }}
{{- end }}
{{- if and .configMap .profiles }}
{{- fail "seccompProfiles: either configMap or profiles, not both" }}
{{- end }}
{{- print "true" }}
{{- end }}
{{- end }}
{{- end }}
