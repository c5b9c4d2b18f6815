package main

import "github.com/spf13/cobra"

func lintCommand() *cobra.Command     { return &cobra.Command{Use: "lint"} }
func budgetCommand() *cobra.Command   { return &cobra.Command{Use: "budget"} }
func timelineCommand() *cobra.Command { return &cobra.Command{Use: "timeline"} }
