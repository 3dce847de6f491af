"""The methods: one file a LightningModule, its blocks beside it."""
