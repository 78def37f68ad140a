"""Exports to TensorFlow, Keras, TensorFlow Lite and TensorFlow.js."""
