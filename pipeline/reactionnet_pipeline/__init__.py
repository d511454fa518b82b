"""Ingestion of reaction videos with Apache Beam: panes, faces, captions and sharded WebDataset tars."""
