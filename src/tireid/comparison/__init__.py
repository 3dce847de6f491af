"""Many runs side by side: tables, charts, significance, reports and dashboards."""
